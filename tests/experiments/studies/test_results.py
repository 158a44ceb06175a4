"""From run folders to rows: what is one cell, in which order rows stand, and what is chosen."""

import pytest

from experiments.studies import archive, paired, plans
from experiments.studies.results import SizeDifference, natural, read_study
from experiments.studies.rows import Choice
from experiments.studies.run_folder import open_study
from tests.experiments.fake_study import ENVIRONMENT, HYBRID, KINDS, TASK, config_of, write_run, write_study

SHORT = ["conv+full", "conv+linear"]


def test_one_row_per_cell_best_first(tmp_path):
    study = read_study(write_study(tmp_path / "toy"))
    assert len(study.rows) == len(KINDS) and study.varied == () and study.name == "toy"
    means = [row.accuracy.mean for row in study.rows]
    assert means == sorted(means, reverse=True)
    full = study.rows[0]
    assert full.attention == "conv+full" and full.ended == 3 and full.solved == 3
    assert full.accuracy.low < full.accuracy.mean <= full.accuracy.high <= 1.0


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


@pytest.mark.parametrize(
    "scores, best",
    [
        ((0.90, 0.91, 0.92, 0.90, 0.91), True),
        ((0.90, 0.50, 0.70, 0.55, 0.75), False),  # overlap
        ((0.90, 0.91, 0.92, 0.90), False),  # too few
        ((0.9,), False),
    ],
)
def test_the_best_row_is_told_apart_from_all_others_over_five_seeds(tmp_path, scores, best):
    for seed, score in enumerate(scores):
        write_run(tmp_path / "study", config_of("conv+full", seed), test_accuracy=score)
        write_run(tmp_path / "study", config_of("conv+linear", seed), test_accuracy=0.6 + 0.001 * seed)
    study = read_study(tmp_path / "study")
    assert [study.best(row) for row in study.rows] == [best, False]


def test_rows_of_other_tasks_are_no_rivals_and_keys_that_vary_are_named(tmp_path):
    for task, steps in (("mqar:length=64,num_pairs=4", 1000), ("induction", 200)):
        for attention in SHORT:
            for seed in range(5):
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
    assert row.accuracy.mean == pytest.approx(0.2) and study.varied == ()
    assert row.choices == (Choice("train.learning_rate", 0.01, ((0.001, 0.3), (0.01, 0.9)), solved_at=0.99),)


def test_equal_accuracies_are_told_apart_by_loss(tmp_path):
    for rate, loss in ((0.001, 0.02), (0.003, 0.01), (0.01, None), (0.03, 0.03)):
        config = config_of("conv+full", learning_rate=rate)
        config["study"]["select"] = ("train.learning_rate",)
        write_run(tmp_path / "study", config, validation_accuracy=1.0, validation_loss=loss)
    (row,) = read_study(tmp_path / "study").rows
    assert row.choices[0].value == 0.003


def test_the_whole_curve_of_a_choice_is_kept_as_means_over_seeds(tmp_path):
    scores = {0.1: (0.25, 0.75), 0.003: (1.0, 0.99), 0.01: (1.0, 1.0), 0.001: (0.5, None)}
    for rate, found in scores.items():
        for seed, score in enumerate(found):
            config = config_of("conv+full", seed, learning_rate=rate)
            config["study"]["select"] = ("train.learning_rate",)
            write_run(tmp_path / "study", config, validation_accuracy=score)
    (choice,) = read_study(tmp_path / "study").rows[0].choices
    assert dict(choice.curve) == pytest.approx({0.001: 0.25, 0.003: 0.995, 0.01: 1.0, 0.1: 0.5})
    assert [value for value, _ in choice.curve] == sorted(scores)
    assert (choice.value, choice.best, choice.median) == pytest.approx((0.01, 1.0, 0.7475))
    assert choice.window == pytest.approx(0.01 / 0.003)


def test_the_curve_of_one_of_two_choices_is_that_of_the_best_other_one(tmp_path):
    for rate in (0.01, 0.001):
        for batch, score in ((16, 0.5), (32, 0.9 if rate == 0.01 else 0.7)):
            config = config_of("conv+full", learning_rate=rate, batch_size=batch)
            config["study"]["select"] = ("train.learning_rate", "train.batch_size")
            write_run(tmp_path / "study", config, validation_accuracy=score)
    curves = {choice.key: choice.curve for choice in read_study(tmp_path / "study").rows[0].choices}
    assert curves == {"train.learning_rate": ((0.001, 0.7), (0.01, 0.9)), "train.batch_size": ((16, 0.5), (32, 0.9))}


@pytest.mark.parametrize(
    ("curve", "window"),
    [
        (((0.001, 0.5), (0.003, 0.99)), 1),
        (((0.001, 0.5), (0.003, 0.98)), None),
        (((0.001, 0.99), (0.002, 0.5), (0.005, 1.0)), 5),
        ((("adamw", 1.0), ("sgd", 1.0)), None),
        (((0, 1.0), (3, 1.0)), None),
    ],
)
def test_the_window_of_a_choice_is_how_far_apart_the_values_that_solve_are(curve, window):
    assert Choice("key", curve[0][0], curve, solved_at=0.99).window == (
        None if window is None else pytest.approx(window)
    )


@pytest.mark.parametrize(
    ("value", "tried", "edge"), [(1, (1, 2, 3), -1), (2, (1, 2, 3), 0), (3, (1, 3), 1), (1, (1,), 0)]
)
def test_a_choice_at_the_edge_of_what_was_tried_is_known_as_one(value, tried, edge):
    assert Choice("key", value, tuple((each, 0.5) for each in tried), solved_at=0.99).edge == edge


@pytest.mark.parametrize("status, damaged", [("diverged", False), ("done", True)])
def test_only_a_run_that_diverged_may_have_no_learning_curve(tmp_path, status, damaged):
    """It may do so before its first evaluation."""
    run = write_run(tmp_path / "study", config_of("conv+full", 0), status=status)
    (run / "metrics.jsonl").write_text("")
    assert bool(read_study(tmp_path / "study").problems) == damaged


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
    for path in (tmp_path / "toyy", tmp_path, tmp_path / "else" / "toyy"):
        with pytest.raises(ValueError, match=f"studies near: {toy}.$"):
            read_study(path)
    archive.pack(toy, tmp_path / "kept" / "packed")
    for path in (tmp_path / "packd", tmp_path / "kep" / "packed", tmp_path / "kept"):
        with pytest.raises(ValueError, match=f"studies near: {tmp_path / 'kept' / 'packed'}"):
            read_study(path)


def test_a_file_and_a_run_are_told_from_a_study(tmp_path):
    toy = write_study(tmp_path / "toy", ["conv+full"], 1, [TASK])
    run = open_study(toy)[0].path
    with pytest.raises(ValueError, match=f"'{run}' is a run; its study is '{toy}'"):
        read_study(run)
    (toy / "notes.txt").write_text("mine")
    with pytest.raises(
        ValueError, match=f"'{toy / 'notes.txt'}' is a file; name the folder of a study, such as '{toy}'"
    ):
        read_study(toy / "notes.txt")


def test_runs_of_a_plan_that_have_no_folder_yet_have_not_ended(tmp_path):
    toy = write_study(tmp_path / "toy", ["conv+full"], 2, [TASK])
    known = [run.path.name for run in open_study(toy)]
    with plans.written(toy, {name: plans.PlannedRun("label", "cell", 7) for name in (*known, "aa", "bb", "cc")}):
        assert read_study(toy).unfinished == 3
    assert read_study(toy).unfinished == 0


def test_rows_of_a_task_are_compared_once_however_often_it_is_asked(tmp_path, monkeypatch):
    study = read_study(write_study(tmp_path / "study", [f"conv+linear:chunk_size={n}" for n in range(1, 9)], seeds=5))
    counted, once = [], paired.differences
    monkeypatch.setattr(paired, "differences", lambda rows, first: counted.append(first) or once(rows, first))
    for _ in range(3):
        assert sum(study.best(row) for row in study.rows) <= 1 and len(study.models) == 8
    assert len(counted) == 1


def test_setups_differ_in_versions_and_devices_of_one_task(tmp_path):
    cases = {"one": {}, "device": {"device": "GPU"}, "devices": {"devices": 4}, "jax": {"jax": "9"}}
    for name, other in cases.items():
        environments: tuple[dict, ...] = ({}, other)
        for attention, environment in zip(SHORT, environments, strict=True):
            write_run(tmp_path / name, config_of(attention), environment=environment)
        write_run(tmp_path / name, config_of("conv+full", task="induction"), environment={"device": "Elsewhere"})
        found = read_study(tmp_path / name).mixed_setups
        assert len(found) == (0 if name == "one" else 2), name
        assert not any(setup.device == "Elsewhere" for setup in found), "rows of other tasks are not compared"
