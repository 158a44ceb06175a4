"""From a config and its grid to the configs of a study's runs."""

import pytest

from attention_variants.specs import SpecError
from experiments.config.files import apply_overrides
from experiments.config.schema import Config, cell_fields, varied_keys
from experiments.studies.grid import check_selected, expand, shard, varied_fields


def config(**values):
    return Config.from_fields({name.replace("__", "."): value for name, value in values.items()})


def test_an_override_ends_the_grid_of_its_own_key():
    given = config(study__vary=("model.attention=full|linear", "train.steps=100|200"))
    changed = apply_overrides(given, ["model.attention=sliding_window"])
    assert changed.study.vary == ("train.steps=100|200",)
    assert {run.model.attention for run in expand(changed)} == {"sliding_window"}


def test_the_grid_is_every_cell_at_every_seed_and_all_cells_of_a_seed_come_together():
    runs = expand(config(seed=5), ["model.attention=full|linear", "train.learning_rate=1e-2|1e-3"], seeds=3)
    assert [run.seed for run in runs] == [5] * 4 + [6] * 4 + [7] * 4
    assert [(run.model.attention, run.train.learning_rate) for run in runs[:4]] == [
        ("full", 0.01),
        ("full", 0.001),
        ("linear", 0.01),
        ("linear", 0.001),
    ]
    cells = [cell_fields(run.fields()) for run in runs]
    assert varied_keys(cells) == ["model.attention", "train.learning_rate"]
    assert cells[0] == cells[4] != cells[1]


def test_vary_and_seeds_replace_those_of_the_config():
    given = config(study__vary=("model.attention=full|linear",), study__seeds=2)
    assert len(expand(given)) == 4
    assert len(expand(given, ["train.steps=1|2|3"], seeds=1)) == 3


def test_a_spec_with_commas_and_layers_stays_one_alternative():
    (run, _) = expand(config(), ["model.attention=conv+bigbird:window_size=8,num_random=2 | full"])
    assert run.model.attention == "conv+bigbird:window_size=8,num_random=2"


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
        (["train.keep_checkpoints=last|every"], "cannot vary 'train.keep_checkpoints'"),
        (["study.seeds=1|2"], "cannot vary"),
        (["train.steps=log(1,9)"], r"--vary: train.steps=log\(1,9\): a range is written"),
        (["train.steps=log(1,100,3)|10"], "gives train.steps=10 twice"),
        (["train.steps=uniform(1,100,3)|10"], "draws its values and must stand alone"),
        (
            ["train.steps=uniform(1,100,3)", "train.learning_rate=loguniform(1e-4,1e-2,4)"],
            "as many of each; got train.steps 3, train.learning_rate 4",
        ),
    ],
)
def test_a_wrong_grid(vary, message):
    with pytest.raises(SpecError, match=message):
        expand(config(), vary)


def test_ranges_mix_with_values_and_are_crossed_with_the_grid():
    runs = expand(config(), ["train.learning_rate=log(1e-4,1e-2,3)|0.03", "model.attention=full|linear"])
    assert [run.train.learning_rate for run in runs[::2]] == [1e-4, 1e-3, 1e-2, 0.03] and len(runs) == 8


def test_draws_of_several_fields_are_one_axis_crossed_with_the_grid():
    drawn = ["train.learning_rate=loguniform(1e-4,1e-2,5)", "train.clip_norm=uniform(0.1,2,5)"]
    runs = expand(config(), [*drawn, "model.attention=full|linear"], seeds=2)
    points = {(run.train.learning_rate, run.train.clip_norm) for run in runs}
    assert len(runs) == 2 * 5 * 2 and len(points) == 5 and len({rate for rate, _ in points}) == 5


SWEEP = [{"model.model_dim": 32, "model.num_heads": 1}, {"model.model_dim": 96, "model.num_heads": 3}]


def test_the_cells_of_a_sweep_are_crossed_with_the_grid_of_the_config():
    given = config(study__vary=("model.attention=full|linear",))
    runs = expand(given, sweep=SWEEP, seeds=2)
    sizes = [(run.model.model_dim, run.model.num_heads, run.model.attention, run.seed) for run in runs]
    assert sizes[:4] == [(32, 1, "full", 0), (32, 1, "linear", 0), (96, 3, "full", 0), (96, 3, "linear", 0)]
    assert len(set(sizes)) == len(sizes) == 8
    assert varied_fields(given, (), SWEEP) == ["model.model_dim", "model.num_heads", "model.attention"]
    check_selected(["model.num_heads"], varied_fields(given, (), SWEEP))


def test_vary_replaces_a_sweep_and_no_field_is_set_by_both_it_and_the_grid():
    replaced = expand(config(), ["train.steps=1|2"], sweep=SWEEP)
    assert [run.model.model_dim for run in replaced] == [64, 64]
    assert varied_fields(config(), ["train.steps=1|2"], SWEEP) == ["train.steps"]
    with pytest.raises(SpecError, match="model.num_heads is set by sweep.add. and varied by study.vary"):
        expand(config(study__vary=("model.num_heads=1|2",)), sweep=SWEEP)


def test_a_study_has_a_largest_number_of_runs():
    for seeds in (10**9, 10**23):
        with pytest.raises(SpecError, match="at most 100000 runs; this one has 2"):
            expand(config(), ["model.attention=full|linear"], seeds=seeds)


def test_seeds_that_choose_count_before_they_are_listed():
    many = config(study__search_seeds=10**23, study__select=("train.learning_rate",))
    with pytest.raises(SpecError, match="at most 100000 runs; this one has 2"):
        expand(many, ["train.learning_rate=0.1|0.2"])


def test_a_wrong_selection_or_number_of_seeds():
    with pytest.raises(SpecError, match="study.select: unknown config key 'train.lr'.* train.learning_rate"):
        expand(config(study__select=("train.lr",)))
    with pytest.raises(SpecError, match="study.seeds must be an integer >= 1; got 0"):
        expand(config(study__seeds=0))


@pytest.mark.parametrize("number", [1, 2, 3, 7, 11])
def test_shards_partition_a_study(number):
    configs = expand(config(), ["model.attention=full|linear|delta"], 5)
    parts = [shard(configs, f"{index}/{number}") for index in range(number)]
    assert sorted(map(configs.index, sum(parts, []))) == list(range(15))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert shard(configs, None) == configs


@pytest.mark.parametrize("part", ["3/3", "1", "", "/", "a/b", "-1/3", "0/0", "1/2/3", "0.5/2", "¹/3"])
def test_a_shard_that_cannot_be_is_named(part):
    with pytest.raises(SpecError, match=r"--shard must be i/n with 0 <= i < n"):
        shard([], part)
    with pytest.raises(SpecError, match=r"--shard=2/3 has no run; the study has 1."):
        shard([None], "2/3")
