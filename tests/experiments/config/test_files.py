"""From a config file and overrides to a config."""

import textwrap

import pytest

from attention_variants.specs import SpecError
from experiments.config.files import apply_overrides, load, load_config, without_overridden
from experiments.config.schema import Config


def write_config(folder, body: str) -> str:
    path = folder / "config.py"
    path.write_text("from configs import base\n\ndef get_config():\n" + textwrap.indent(textwrap.dedent(body), "    "))
    return str(path)


def test_a_config_file_is_completed_by_the_defaults(tmp_path):
    config = load_config(write_config(tmp_path, "return {'name': 'mine', 'train': {'learning_rate': 1}}"))
    assert config.name == "mine" and config.train.learning_rate == 1.0
    assert type(config.train.learning_rate) is float
    assert config.train.steps == Config().train.steps


@pytest.mark.parametrize(
    "body, message",
    [
        ("return undefined_name", r"failed: NameError: name 'undefined_name' is not defined \(line 5\)"),
        ("raise SystemExit(3)", "failed: SystemExit: 3"),
        ("return 3", "must return a ConfigDict; got int"),
        ("c = base.get_config(); c.model.atention = 'full'; return c", "'model.atention'; nearest .* model.attention"),
        ("c = base.get_config(); c.train.steps = 'many'; return c", "failed: TypeError"),
        ("return {'train': {'steps': 'many'}}", "train.steps must be an integer; got 'many'"),
        ("return {'train': {'steps': 1.5}}", "train.steps must be an integer; got 1.5"),
        ("return {'train': {'steps': True}}", "train.steps must be an integer; got True"),
        ("return {'train': {'clip_norm': float('nan')}}", "train.clip_norm must be a finite number; got nan"),
        ("return {'train': 3}", "'train' is a section"),
        ("return {'train': {'learning_rate': 10**400}}", "train.learning_rate must be a finite number"),
        (
            "c = base.get_config(); import ml_collections; "
            "c.more = ml_collections.config_dict.required_placeholder(int); return c",
            "failed: RequiredValueError",
        ),
    ],
)
def test_a_wrong_config_file_is_one_line(tmp_path, body, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_config(write_config(tmp_path, f"\n{body}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["def get_config(:\n", "\0\0", "x = 1\n"])
def test_a_file_that_is_no_config_is_one_line(tmp_path, content):
    path = tmp_path / "config.py"
    path.write_text(content)
    with pytest.raises(ValueError, match="--config: .*config.py failed: .*") as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)


def test_overrides_are_typed_and_leave_the_original_alone():
    changed = apply_overrides(Config(), ["train.steps=7", "train.learning_rate=1e-2", "model.qk_norm=true"])
    assert (changed.train.steps, changed.train.learning_rate, changed.model.qk_norm) == (7, 0.01, True)
    assert changed.train.batch_size == Config().train.batch_size


def test_a_selection_is_given_as_a_list_or_by_its_flag():
    expected = ("train.learning_rate", "train.steps")
    by_field = apply_overrides(Config(), ["study.select=train.learning_rate,train.steps"])
    by_flag = apply_overrides(Config(), [], select=["train.learning_rate", "train.steps"])
    in_file = Config.from_fields({"study.select": expected})
    assert by_field.study.select == by_flag.study.select == in_file.study.select == expected


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.steps", "needs a value"),
        ("train", "'train' is a section; set one of its fields: train.batch_size"),
        ("train.warmup_steps=3", "it is a field of a spec: train.schedule=cosine:warmup_steps"),
        ("train.stepz=3", "'train.stepz'; nearest valid keys: train.steps"),
        ("steps=3", "'steps'; nearest valid keys: train.steps"),
        ("model=full", "'model' is a section; set one of its fields: model.attention"),
        ("train.steps=1e3", "train.steps must be an integer; got '1e3'"),
        ("train.learning_rate=nan", "train.learning_rate must be a finite number; got 'nan'"),
        ("train.learning_rate=inf", "train.learning_rate must be a finite number; got 'inf'"),
        ("model.qk_norm=maybe", "model.qk_norm must be true or false; got 'maybe'"),
        ("study.vary=a", "with --vary="),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(SpecError, match=message):
        apply_overrides(Config(), [override])


def write_sweep(folder, body: str) -> str:
    path = write_config(folder, "return base.get_config()")
    with open(path, "a") as file:
        file.write("\n\ndef sweep(add):\n" + textwrap.indent(textwrap.dedent(body), "    "))
    return path


def test_a_sweep_adds_cells_nested_or_flat(tmp_path):
    body = """
        for width in (32, 96):
            add({"model.model_dim": width, "model": {"num_heads": width // 32}, "train.learning_rate": 1})
    """
    assert load(write_sweep(tmp_path, body)).sweep == tuple(
        {"model.model_dim": width, "model.num_heads": width // 32, "train.learning_rate": 1.0} for width in (32, 96)
    )
    assert load(write_config(tmp_path, "return {}")).sweep == ()


@pytest.mark.parametrize(
    "body, message",
    [
        ("pass", "adds nothing"),
        ("add({})", "add takes a dict such as .*; got {}"),
        ("add('model.attention=full')", "add takes a dict such as"),
        ("add({'model.atention': 'full'})", "'model.atention'; nearest valid keys: model.attention"),
        ("add({'train.steps': 'many'})", "train.steps must be an integer; got 'many'"),
        ("add({'seed': 3})", "cannot vary 'seed'; use --seeds"),
        ("add({'study.seeds': 3})", "cannot vary 'study.seeds'"),
        ("add({'model.attention': 'full'}); 1 / 0", r"failed: ZeroDivisionError: division by zero \(line"),
        ("add()", "failed: TypeError"),
    ],
)
def test_a_wrong_sweep_is_one_line(tmp_path, body, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(write_sweep(tmp_path, body))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("--config: ")


def test_an_override_fixes_a_field_in_every_cell_and_equal_cells_are_one():
    cells = [{"train.steps": steps, "train.clip_norm": norm} for steps in (1, 2) for norm in (0.5, 1.0)]
    assert without_overridden(cells, ["train.steps=7"]) == ({"train.clip_norm": 0.5}, {"train.clip_norm": 1.0})
    assert without_overridden(cells, ["train.steps=7", "train.clip_norm=1"]) == ()
    assert without_overridden(cells, ["model.attention=full"]) == tuple(cells)
