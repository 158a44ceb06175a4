"""From run folders to rows: what is one cell, in which order rows stand, and what is chosen."""

import pytest

from experiments.studies import intervals
from experiments.studies.results import SizeDifference, natural, read_study
from experiments.studies.rows import Choice
from tests.experiments.fake_study import ENVIRONMENT, HYBRID, KINDS, TASK, config_of, write_run, write_study

SHORT = ["conv+full", "conv+linear"]


def test_one_row_per_cell_best_first(tmp_path):
    study = read_study(write_study(tmp_path / "toy"))
    assert len(study.rows) == len(KINDS) and study.varied == () and study.name == "toy"
    means = [row.accuracy[0] for row in study.rows]
    assert means == sorted(means, reverse=True)
    full = study.rows[0]
    assert full.attention == "conv+full" and full.ended == 3 and full.solved == 3
    assert full.accuracy[1] < full.accuracy[0] <= full.accuracy[2] <= 1.0


def test_runs_of_one_digest_are_one_cell_however_their_specs_are_spelled(tmp_path):
    for seed, attention in enumerate(("conv+linear", "conv+linear:chunk_size=64")):
        write_run(tmp_path / "study", config_of(attention, seed), cell="the same")
    (row,) = read_study(tmp_path / "study").rows
    assert row.ended == 2


def test_runs_without_a_digest_belong_to_the_cell_of_their_config_as_written(tmp_path):
    for seed, cell in enumerate((None, "digest", None)):
        write_run(tmp_path / "study", config_of("conv+full", seed), cell=cell)
    write_run(tmp_path / "study", config_of("conv+full", 3, steps=7), cell=None)
    assert sorted(row.ended for row in read_study(tmp_path / "study").rows) == [1, 3]


def test_a_config_that_is_older_than_a_field_has_its_default(tmp_path):
    old = config_of("conv+full", 1)
    del old["model"]["readout"]
    for config in (config_of("conv+full", 0), old):
        write_run(tmp_path / "study", config, cell=None)
    (row,) = read_study(tmp_path / "study").rows
    assert row.ended == 2 and row.config["model.readout"] == "position"


def test_a_field_that_only_some_configs_have_is_one_that_varies(tmp_path):
    write_run(tmp_path / "study", config_of("conv+full"))
    other = config_of("conv+full")
    write_run(tmp_path / "study", other | {"model": other["model"] | {"from_the_future": 3}})
    study = read_study(tmp_path / "study")
    assert study.varied == ("model.from_the_future",)
    assert sorted(str(row.varied["model.from_the_future"]) for row in study.rows) == ["3", "None"]


def test_the_best_row_is_apart_from_all_others_and_has_several_seeds(tmp_path):
    for name, seeds, scores in (("overlap", 3, (0.90, 0.50, 0.70)), ("single", 1, (0.9,)), ("apart", 2, (0.9, 0.91))):
        for seed in range(seeds):
            write_run(tmp_path / name, config_of("conv+full", seed), test_accuracy=scores[seed])
            write_run(tmp_path / name, config_of("conv+linear", seed), test_accuracy=0.6 + 0.001 * seed)
        study = read_study(tmp_path / name)
        assert [study.best(row) for row in study.rows] == [name == "apart", False], name


def test_rows_of_other_tasks_are_no_rivals_and_keys_that_vary_are_named(tmp_path):
    for task, steps in (("mqar:length=64,num_pairs=4", 1000), ("induction", 200)):
        for attention in SHORT:
            for seed in range(2):
                write_run(tmp_path / "study", config_of(attention, seed, task, steps=steps))
    study = read_study(tmp_path / "study")
    assert study.varied == ("task", "train.steps") and len(study.rows) == 4
    assert [study.best(row) for row in study.rows] == [True, False, True, False]


def test_a_label_names_flags_where_they_are_set(tmp_path):
    for bidirectional, steps in ((False, 200), (True, 200), (True, 1000)):
        config = config_of("conv+full", steps=steps)
        config["model"] = config["model"] | {"bidirectional": bidirectional}
        write_run(tmp_path / "study", config)
    study = read_study(tmp_path / "study")
    labels = ["conv+full, steps=200", "conv+full, bidirectional, steps=1000", "conv+full, bidirectional, steps=200"]
    assert sorted(study.label(row) for row in study.rows) == sorted(labels)
    assert {study.label(row, without=["train.steps"]) for row in study.rows} == {
        "conv+full",
        "conv+full, bidirectional",
    }


def test_tasks_stand_in_order_of_size(tmp_path):
    tasks = {length: f"mqar:length={length},num_pairs=8,vocab_size=1024" for length in (256, 1024, 64, 128)}
    study = read_study(write_study(tmp_path / "study", SHORT, 1, list(tasks.values())))
    ordered = [tasks[length] for length in sorted(tasks)]
    assert list(study.by_task) == ordered
    assert [row.config["task"] for row in study.rows] == [task for task in ordered for _ in SHORT]


def test_natural_order_is_that_of_the_numbers():
    ordered = ["a", "a:x=0.05", "a:x=1e-1", "a:x=0.5", "a:x=2", "a:x=10", "a:x=10,y=3", "a:y", "b"]
    assert sorted(reversed(ordered), key=natural) == ordered
    assert natural("a:x=1") != natural("a:x=1.0")


def test_models_are_what_is_left_without_the_task_and_what_belongs_to_it(tmp_path):
    for task, steps in (("mqar", 200), ("induction", 400)):
        for attention in SHORT:
            for rate in (0.1, 0.2):
                config = config_of(attention, task=task, steps=steps, learning_rate=rate)
                write_run(tmp_path / "study", config, test_accuracy=rate + 0.5 * (attention == "conv+linear"))
    study = read_study(tmp_path / "study")
    assert set(study.varied) == {"task", "train.steps", "train.learning_rate"}
    assert study.models == [f"{name}, learning_rate={rate}" for name in reversed(SHORT) for rate in (0.2, 0.1)]
    for rows in study.by_task.values():
        assert sorted(map(study.model, rows)) == sorted(study.models)


def test_selection_is_by_validation_and_never_by_test(tmp_path):
    for rate, validation, test in ((0.01, 0.9, 0.2), (0.001, 0.3, 0.99)):
        for seed in range(3):
            config = config_of("conv+full", seed, learning_rate=rate)
            config["study"]["select"] = ("train.learning_rate",)
            write_run(tmp_path / "study", config, validation_accuracy=validation, test_accuracy=test)
    study = read_study(tmp_path / "study")
    (row,) = study.rows
    assert row.accuracy[0] == pytest.approx(0.2) and study.varied == ()
    assert row.choices == (Choice("train.learning_rate", 0.01, (0.001, 0.01)),)


def test_equal_accuracies_are_told_apart_by_loss(tmp_path):
    for rate, loss in ((0.001, 0.02), (0.003, 0.01), (0.01, None), (0.03, 0.03)):
        config = config_of("conv+full", learning_rate=rate)
        config["study"]["select"] = ("train.learning_rate",)
        write_run(tmp_path / "study", config, validation_accuracy=1.0, validation_loss=loss)
    (row,) = read_study(tmp_path / "study").rows
    assert row.choices[0].value == 0.003


@pytest.mark.parametrize(
    ("value", "tried", "edge"), [(1, (1, 2, 3), -1), (2, (1, 2, 3), 0), (3, (1, 3), 1), (1, (1,), 0)]
)
def test_a_choice_at_the_edge_of_what_was_tried_is_known_as_one(value, tried, edge):
    assert Choice("key", value, tried).edge == edge


def test_diverged_runs_stay_in_the_denominator_failed_and_unfinished_ones_are_counted(tmp_path):
    folder = tmp_path / "study"
    write_run(folder, config_of("conv+full", 0))
    write_run(folder, config_of("conv+full", 1), status="diverged", steps_to_solve=None, test_accuracy=0.2)
    write_run(folder, config_of("conv+full", 2), status="diverged", steps_to_solve=None, test_accuracy=None)
    write_run(folder, config_of("conv+full", 3), status="failed", error="boom")
    (write_run(folder, config_of("conv+full", 4)) / "result.json").unlink()
    study = read_study(folder)
    (row,) = study.rows
    assert (row.ended, row.solved, row.diverged, len(row.accuracies)) == (3, 1, 2, 2)
    assert row.steps_to_solve is None and (study.failed, study.unfinished) == (1, 1)


def test_environments_differ_in_what_times_depend_on(tmp_path):
    def environments(name, *changes):
        for seed, change in enumerate(changes):
            write_run(tmp_path / name, config_of("conv+full", seed), environment=change)
        return read_study(tmp_path / name).environments

    assert len(environments("device", {}, {"device": "Another CPU"})) == 2
    assert len(environments("numpy", ENVIRONMENT | {"numpy": "1"}, ENVIRONMENT | {"numpy": "2"})) == 1
    fast = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}
    found = environments("flags", {}, {"flags": {"JAX_PLATFORMS": "cpu"}}, {"flags": fast})
    assert sorted((environment["flags"] for environment in found), key=len) == [{}, fast]


def test_a_row_of_another_size_is_compared_with_the_most_common_one(tmp_path):
    study = read_study(write_study(tmp_path / "toy", seeds=1))
    deeper = (SizeDifference("layers", own=3, usual=2),)
    assert study.other_sizes == [deeper]
    assert {row.attention: study.other_size(row) for row in study.rows if study.other_size(row)} == {HYBRID: deeper}


def test_width_counts_as_depth_does(tmp_path):
    for attention, width in (("conv+full", 64), ("conv+linear", 64), (HYBRID, 32)):
        config = config_of(attention)
        write_run(tmp_path / "study", config, model={"layers": 2, "model_dim": width, "mlp_dim": width})
    narrower = tuple(SizeDifference(field, own=32, usual=64) for field in ("model_dim", "mlp_dim"))
    assert read_study(tmp_path / "study").other_sizes == [narrower]


def test_a_size_that_the_study_varies_does_not_count(tmp_path):
    for layers in (2, 4):
        for attention in (*SHORT, HYBRID):
            config = config_of(attention)
            config["model"] = config["model"] | {"num_layers": layers}
            actual = {"layers": layers, "model_dim": 64, "mlp_dim": 16 if attention == HYBRID else 0}
            write_run(tmp_path / "study", config, model=actual)
    study = read_study(tmp_path / "study")
    assert study.varied == ("model.num_layers",) and study.other_sizes == [(SizeDifference("mlp_dim", 16, 0),)]


def test_studies_near_are_named(tmp_path):
    toy = write_study(tmp_path / "toy", ["conv+full"], 1, [TASK])
    for path in (tmp_path / "toyy", tmp_path):
        with pytest.raises(ValueError, match=f"studies near: {toy}"):
            read_study(path)


def test_every_interval_is_computed_once_however_often_rows_are_compared(tmp_path, monkeypatch):
    study = read_study(write_study(tmp_path / "study", [f"conv+linear:chunk_size={n}" for n in range(1, 9)], seeds=2))
    counted, once = [], intervals.mean_interval
    monkeypatch.setattr(intervals, "mean_interval", lambda values: counted.append(values) or once(values))
    for _ in range(3):
        assert sum(study.best(row) for row in study.rows) <= 1 and len(study.models) == 8
    assert len(counted) <= 8
