"""One row: its own test and those on other rows, and what is known of its task and model."""

import pytest

from experiments.studies.results import read_study
from experiments.studies.rows import ModelSize, ScoreKey, TaskFacts, task_differences
from tests.experiments.fake_study import HYBRID, config_of, score, task_facts, write_run


def read_row(folder):
    (row,) = read_study(folder).rows
    return row


def test_tests_are_the_own_one_and_then_those_on_other_rows_summed_up_over_seeds(tmp_path):
    for seed in range(2):
        lengths = [score("length", "41-80", 0.2 + 0.1 * seed, floor=0.02 * seed, ceiling=0.5 + 0.1 * seed)]
        shifted = [score("shifted", "mqar:power=1.0", 0.7, label="power=1.0")] if seed else []
        write_run(tmp_path / "study", config_of("conv+full", seed), tests=[*lengths, *shifted])
    row = read_row(tmp_path / "study")
    own, length, shift = row.tests
    assert row.other_rows == (length, shift) and row.accuracy == own.accuracy and row.accuracies == own.accuracies
    assert (own.key.kind, own.label, own.length, own.floor) == ("own", "as trained", 128.0, 0.125)
    assert (length.key, length.label, length.length) == (ScoreKey("length", "41-80"), "at 41-80", 60.5)
    assert length.accuracies == pytest.approx((0.2, 0.3)) and length.accuracy.mean == pytest.approx(0.25)
    assert (length.floor, length.ceiling) == pytest.approx((0.01, 0.55))
    assert shift.accuracies == (0.7,) and shift.accuracy.mean == 0.7
    assert row.test(ScoreKey("length", "41-80")) is length and row.test(ScoreKey("length", "128")) is None


def test_a_diverged_run_may_have_no_scores(tmp_path):
    unknown = score("length", "256", None, loss=None)
    write_run(tmp_path / "study", config_of("conv+full"), test_accuracy=None, tests=[unknown])
    row = read_row(tmp_path / "study")
    assert row.accuracy is None and row.other_rows[0].accuracy is None and row.other_rows[0].loss is None


def test_facts_are_those_recorded_or_else_what_the_spec_spells_out(tmp_path):
    spec = "mqar:length=32,power=0.5,random_fillers=true"
    write_run(tmp_path / "new", config_of("conv+full", task=spec))
    assert read_row(tmp_path / "new").task == TaskFacts(**task_facts(spec))
    write_run(tmp_path / "old", config_of("conv+full", task=spec), task=None, model=None, cell=None)
    derived = TaskFacts(name="mqar", fields={"length": 32, "power": 0.5, "random_fillers": "true"})
    assert read_row(tmp_path / "old").task == derived and derived.tolerance is None


@pytest.mark.parametrize("recorded", [True, False])
def test_the_size_of_a_model_is_that_recorded_or_else_of_the_config(tmp_path, recorded):
    changes = {} if recorded else {"model": None}
    write_run(tmp_path / "study", config_of(HYBRID), **changes)
    assert read_row(tmp_path / "study").size == ModelSize(layers=3, model_dim=64, mlp_dim=0)
    config = config_of("conv+full")
    config["model"] = config["model"] | {"num_layers": 6, "mlp_dim": 32}
    write_run(tmp_path / "deep", config, **changes)
    assert read_row(tmp_path / "deep").size == ModelSize(layers=6, model_dim=64, mlp_dim=32)


def test_differences_of_tasks_count_defaults_and_need_one_name():
    def differences(*specs):
        return task_differences([TaskFacts(**task_facts(spec)) for spec in specs])

    assert differences("mqar", "mqar:length=32") == [{"length": 64}, {"length": 32}]
    assert differences("mqar:length=64", "mqar") == [{}, {}]
    assert differences("mqar", "induction") is None
    unknown = [TaskFacts(name="mqar", fields=fields) for fields in ({"length": 32}, {})]
    assert task_differences(unknown) is None, "a default that is not recorded is not known"
