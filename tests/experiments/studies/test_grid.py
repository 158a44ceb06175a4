"""From config file and overrides to the list of runs."""

import textwrap

import pytest

from attention_variants.specs import SpecError
from experiments.studies import grid as study


def write_config(folder, body: str) -> str:
    path = folder / "config.py"
    path.write_text("from configs import base\n\ndef get_config():\n" + textwrap.indent(textwrap.dedent(body), "    "))
    return str(path)


def test_a_config_file_is_completed_by_the_defaults(tmp_path):
    config = study.load_config(write_config(tmp_path, "return {'name': 'mine', 'train': {'learning_rate': 1}}"))
    assert config["name"] == "mine" and config["train"]["learning_rate"] == 1.0
    assert type(config["train"]["learning_rate"]) is float
    assert config["train"]["steps"] == study.defaults()["train"]["steps"]


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
        ("return {'train': 3}", "'train' is a group"),
    ],
)
def test_a_wrong_config_file_is_one_line(tmp_path, body, message):
    with pytest.raises(ValueError, match=message) as caught:
        study.load_config(write_config(tmp_path, f"\n{body}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["def get_config(:\n", "\0\0", "x = 1\n"])
def test_a_file_that_is_no_config_is_one_line(tmp_path, content):
    path = tmp_path / "config.py"
    path.write_text(content)
    with pytest.raises(ValueError, match="--config: .*config.py failed: .*") as caught:
        study.load_config(str(path))
    assert "\n" not in str(caught.value)


def test_overrides_are_typed_and_leave_the_original_alone():
    config = study.defaults()
    changed = study.apply_overrides(config, ["train.steps=7", "train.learning_rate=1e-2", "model.qk_norm=true"])
    assert changed["train"] | {"steps": 7, "learning_rate": 0.01} == changed["train"] and changed["model"]["qk_norm"]
    assert config == study.defaults()
    assert study.apply_overrides(config, ["study.select=train.learning_rate,train.steps"])["study"]["select"] == (
        "train.learning_rate",
        "train.steps",
    )


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.steps", "needs a value"),
        ("train.stepz=3", "'train.stepz'; nearest valid keys: train.steps"),
        ("steps=3", "'steps'; nearest valid keys: train.steps"),
        ("model=full", "'model' is a group; set one of its fields: model.attention"),
        ("train.steps=1e3", "train.steps must be an integer; got '1e3'"),
        ("train.learning_rate=nan", "train.learning_rate must be a finite number; got 'nan'"),
        ("train.learning_rate=inf", "train.learning_rate must be a finite number; got 'inf'"),
        ("model.qk_norm=maybe", "model.qk_norm must be true or false; got 'maybe'"),
        ("study.vary=a", "with --vary="),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(SpecError, match=message):
        study.apply_overrides(study.defaults(), [override])


def test_an_override_ends_the_grid_of_its_own_key():
    config = study.defaults()
    config["study"]["vary"] = ("model.attention=full|linear", "train.steps=100|200")
    changed = study.apply_overrides(config, ["model.attention=sliding_window"])
    assert changed["study"]["vary"] == ("train.steps=100|200",)
    assert {run["model"]["attention"] for run in study.expand(changed)} == {"sliding_window"}


def test_the_grid_is_every_cell_at_every_seed_and_all_cells_of_a_seed_come_together():
    config = study.apply_overrides(study.defaults(), ["seed=5"])
    runs = study.expand(config, ["model.attention=full|linear", "train.learning_rate=1e-2|1e-3"], seeds=3)
    assert [run["seed"] for run in runs] == [5] * 4 + [6] * 4 + [7] * 4
    assert [(run["model"]["attention"], run["train"]["learning_rate"]) for run in runs[:4]] == [
        ("full", 0.01),
        ("full", 0.001),
        ("linear", 0.01),
        ("linear", 0.001),
    ]
    assert study.varied_keys([study.cell(run) for run in runs]) == ["model.attention", "train.learning_rate"]
    assert study.cell(runs[0]) == study.cell(runs[4]) != study.cell(runs[1])
    assert config == study.apply_overrides(study.defaults(), ["seed=5"])


def test_vary_and_seeds_replace_those_of_the_config():
    config = study.complete({"study": {"vary": ("model.attention=full|linear",), "seeds": 2}}, "test")
    assert len(study.expand(config)) == 4
    assert len(study.expand(config, ["train.steps=1|2|3"], seeds=1)) == 3


def test_a_spec_with_commas_and_layers_stays_one_alternative():
    (run, _) = study.expand(study.defaults(), ["model.attention=conv+bigbird:window_size=8,num_random=2 | full"])
    assert run["model"]["attention"] == "conv+bigbird:window_size=8,num_random=2"


@pytest.mark.parametrize(
    "vary, message",
    [
        (["model.attentoin=full"], "'model.attentoin'; nearest valid keys: model.attention"),
        (["model.attention"], "--vary must be like"),
        (["=full"], "--vary must be like"),
        (["model.attention=full||linear"], "empty alternative"),
        (["model.attention=full|full"], "gives model.attention=full twice"),
        (["train.steps=1|1", "train.steps=2"], "twice"),
        (["train.steps=1", "train.steps=2"], "gives 'train.steps' twice"),
        (["train.steps=1|many"], "train.steps must be an integer; got 'many'"),
        (["seed=1|2"], "use --seeds"),
        (["name=a|b"], "cannot vary 'name'"),
        (["study.seeds=1|2"], "cannot vary"),
    ],
)
def test_a_wrong_grid(vary, message):
    with pytest.raises(SpecError, match=message):
        study.expand(study.defaults(), vary)


def test_a_wrong_selection_or_number_of_seeds():
    with pytest.raises(SpecError, match="study.select: unknown config key 'train.lr'.* train.learning_rate"):
        study.expand(study.complete({"study": {"select": ("train.lr",)}}, "test"))
    with pytest.raises(SpecError, match="study.seeds must be an integer >= 1; got 0"):
        study.expand(study.complete({"study": {"seeds": 0}}, "test"))
