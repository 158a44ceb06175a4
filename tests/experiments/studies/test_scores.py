"""Other scores than the test accuracy: what each takes from a run, how rows stand by it, and what is told apart."""

import math

import pytest
from scipy import stats

from experiments.reporting import comparison, selection, tables
from experiments.reporting.columns import columns
from experiments.studies import intervals, paired, scores
from experiments.studies.results import read_study
from tests.experiments.fake_study import KINDS, config_of, score, write_run, write_study

SHORT = ["conv+full", "conv+linear"]
LOSSES = {"conv+full": (0.5, 0.6, 0.4, 0.5, 0.7), "conv+linear": (0.1, 0.2, 0.1, 0.2, 0.1)}
SLICE = {"edges": [1, 2, 4, 8], "accuracy": [None, 0.75, 0.25], "count": [0, 10, 10], "ceiling": [1.0, 1.0, 0.5]}


def by(study, name):
    return study.by_metric(study.metrics[name])


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """A study in which the more accurate model has the larger loss."""
    folder = tmp_path_factory.mktemp("results") / "losses"
    for attention, values in LOSSES.items():
        for seed, loss in enumerate(values):
            write_run(folder, config_of(attention, seed), test_loss=loss)
    return read_study(folder)


def test_the_default_is_the_test_accuracy(losses):
    assert losses.metric is scores.ACCURACY and all(row.score is row.tests[0] for row in losses.rows)
    assert by(losses, "accuracy").rows == losses.rows


def test_a_metric_is_one_number_of_each_run(tmp_path):
    tests = [
        score("length", "128", 0.625, floor=0.1, ceiling=0.9),
        score("shifted", "mqar:power=1.0", 0.5, label="p"),
    ]
    write_run(
        tmp_path / "study",
        config_of("conv+full"),
        tests=tests,
        slices={"depth": SLICE},
        unseen_accuracy=0.375,
        validation_loss=math.nan,
        test_loss=2.5,
        steps_to_solve=None,
        floor=0.2,
    )
    study = read_study(tmp_path / "study")
    found = {name: by(study, name).rows[0].score for name in study.metrics}
    (validation,) = study.rows[0].values("validation_accuracy")
    assert {name: each.accuracies for name, each in found.items()} == {
        "accuracy": study.rows[0].accuracies,
        "validation_accuracy": (validation,),
        "unseen_accuracy": (0.375,),
        "loss": (2.5,),
        "solve_rate": (0.0,),
        "steps_to_solve_median": (math.inf,),
        "accuracy at 128": (0.625,),
        "shifted: p": (0.5,),
        "depth=2-3": (0.75,),
        "depth=4-7": (0.25,),
    }
    bounds = {name: (each.floor, each.ceiling) for name, each in found.items()}
    assert bounds["accuracy at 128"] == (0.1, 0.9) and bounds["depth=4-7"] == (None, 0.5)
    assert bounds["validation_accuracy"] == bounds["accuracy"] == (0.2, 1.0) and bounds["loss"] == (None, None)


def test_whole_rows_have_the_metrics_of_targets_without_their_bounds(tmp_path):
    tests = [score("length", "128", 0.625) | {"row_accuracy": 0.25}, score("shifted", "mqar:power=1.0", 0.5, label="p")]
    slices = {"depth": SLICE | {"row_accuracy": [0.5] * (len(SLICE["accuracy"]) - 1) + [0.125]}}
    write_run(tmp_path / "study", config_of("conv+full"), tests=tests, slices=slices, row_accuracy=0.375)
    study = read_study(tmp_path / "study")
    found = {name: by(study, name).rows[0].score for name in study.metrics if "row" in name}
    assert {name: each.accuracies for name, each in found.items()} == {
        "row_accuracy": (0.375,),
        "row accuracy, at 128": (0.25,),
        "row accuracy, depth=2-3": (0.5,),
        "row accuracy, depth=4-7": (0.125,),
    }
    assert {(each.floor, each.ceiling) for each in found.values()} == {(None, None)}


def test_rows_stand_and_are_told_apart_by_the_metric(losses):
    accurate, lossy = losses, by(losses, "loss")
    assert [row.attention for row in accurate.rows] == SHORT and [row.attention for row in lossy.rows] == SHORT[::-1]
    assert lossy.models == SHORT[::-1]
    assert [lossy.best(row) for row in lossy.rows] == [True, False], "a smaller loss is better"
    assert [accurate.best(row) for row in accurate.rows] == [True, False]


def test_a_difference_of_losses_is_that_of_students_t(losses):
    lossy = by(losses, "loss")
    linear, full = lossy.rows
    (difference,) = paired.differences([linear], full)
    expected = stats.ttest_rel(LOSSES["conv+linear"], LOSSES["conv+full"])
    low, high = expected.confidence_interval(0.95)
    assert difference.p == pytest.approx(expected.pvalue)
    assert difference.estimate[:3] == pytest.approx((-0.4, low, high))
    mean = intervals.mean_number(LOSSES["conv+full"])
    assert mean[1:3] == pytest.approx(stats.t.interval(0.95, 4, mean[0], stats.sem(LOSSES["conv+full"])))


def test_few_numbers_have_a_range_and_equal_ones_a_point():
    assert intervals.mean_number([3.0, 1.0]) == (2.0, 1.0, 3.0, 2) and intervals.mean_number([3.0, 1.0]).kind == "range"
    assert intervals.mean_number([2.0] * 5) == (2.0, 2.0, 2.0, 5)
    wide, narrow = (intervals.number_difference([1, 2, 3, 4, 6], [1] * 5, n) for n in (10, 1))
    assert wide.low < narrow.low < narrow.mean == wide.mean, "Bonferroni's correction"


def test_a_rate_has_wilsons_interval_and_steps_their_median_and_range(tmp_path):
    for seed, solved in enumerate((300, 100, None)):
        write_run(tmp_path / "study", config_of("conv+full", seed), steps_to_solve=solved)
        write_run(tmp_path / "study", config_of("conv+linear", seed), steps_to_solve=solved and None)
    study = read_study(tmp_path / "study")
    rate, steps = (by(study, name).rows[0].score.accuracy for name in ("solve_rate", "steps_to_solve_median"))
    assert rate == (pytest.approx(2 / 3), *study.rows[0].solve_interval, 3) and rate.kind == "interval"
    assert steps == (300, 100, math.inf, 3) and steps.kind == "range"
    unsolved = by(study, "steps_to_solve_median").rows[1]
    assert unsolved.attention == "conv+linear" and unsolved.score.accuracy is None, "the unsolved median is worst"


def test_what_is_not_compared_in_pairs_is_not_told_apart(tmp_path):
    study = by(read_study(write_study(tmp_path / "study", SHORT, 5)), "solve_rate")
    assert not any(map(study.best, study.rows))
    with pytest.raises(ValueError, match="solve_rate is not compared in pairs"):
        comparison.comparison(study, "full")


@pytest.mark.parametrize(
    "name", ["loss", "accuracy at 128", "validation_accuracy", "solve_rate", "steps_to_solve_median"]
)
def test_the_score_takes_the_place_of_the_accuracy_in_every_format(tmp_path, name):
    for attention, seed in ((attention, seed) for attention in KINDS for seed in range(2)):
        write_run(tmp_path / "study", config_of(attention, seed), tests=[score("length", "128", 0.5 + seed / 100)])
    study = by(read_study(tmp_path / "study"), name)
    names = [key for column in columns(study) for key in column.record(study.rows[0])]
    assert len(names) == len(set(names)) and {name, "accuracy", f"{name}_low"} <= set(names)
    shown = [column.title for column in columns(study) if column.shown]
    assert len(shown) == len(set(shown)) and shown[1] == name.replace("_", " ") and "accuracy" not in shown
    for style in tables.STYLES:
        text = " ".join(tables.render(study, style).replace("\\_", "_").split())
        assert (name in text) if style == "csv" else ("in place of the test accuracy" in text), style


def test_a_comparison_by_another_metric_says_so(losses):
    table = comparison.comparison(by(losses, "loss"), "full")
    notes = " ".join(table.notes)
    assert "Difference: test loss minus that of conv+full" in notes and "p: of a paired t test" in notes
    assert "-0.400" in tables.as_text(table) and "yes" in tables.as_text(table)
    assert selection.sort(losses, table, "loss").rows == table.rows
