"""The table of differences: each row minus that of one model on the same task."""

import csv
import io

import pytest

from experiments.reporting import tables
from experiments.reporting.comparison import comparison
from experiments.reporting.names import find_model
from experiments.studies import paired
from experiments.studies.results import read_study
from tests.experiments.fake_study import KINDS, config_of, write_run, write_study

TASKS = ["mqar:length=64", "mqar:length=128"]
WINDOW = "conv+sliding_window:window_size=16"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return read_study(write_study(tmp_path_factory.mktemp("results") / "toy", list(KINDS)[:5], 5, TASKS))


def records(table):
    return list(csv.DictReader(io.StringIO(tables.as_csv(table))))


def test_every_row_has_its_difference_from_the_row_of_its_task(study):
    found = records(comparison(study, "linear"))
    assert [record["model.attention"] for record in found] == [row.attention for row in study.rows]
    for rows in study.by_task.values():
        reference = next(row for row in rows if row.attention == "conv+linear")
        others = [row for row in rows if row is not reference]
        for row, difference in zip(others, paired.differences(others, reference), strict=True):
            record = found[study.rows.index(row)]
            numbers = [float(record[f"difference{end}"]) for end in ("", "_low", "_high")]
            assert numbers == list(difference.estimate[:3]) and float(record["p"]) == difference.p
            assert (record["separates"], record["common_seeds"]) == (str(difference.separates), "5")
            assert record["difference_spread"] == "interval" and record["alike"] == "True"
        record = found[study.rows.index(reference)]
        assert [record[name] for name in ("difference", "p", "separates", "common_seeds")] == [""] * 4


def test_each_task_is_corrected_by_itself(study):
    one = study.by_task[TASKS[0]]
    full = next(row for row in one if row.attention == "conv+full")
    expected = {row.attention: each.p for row, each in zip(one[1:], paired.differences(one[1:], full), strict=True)}
    found = [record for record in records(comparison(study, "full")) if record["task"] == TASKS[0]]
    assert {record["model.attention"]: float(record["p"]) for record in found if record["p"]} == expected


@pytest.mark.parametrize("style", tables.STYLES)
def test_every_format_has_every_row_and_says_which_separate(study, style):
    text = tables.STYLES[style](comparison(study, "full"))
    assert text.replace("\\_", "_").count("conv+linear") == 2
    words = {"text": "separates", "markdown": "| yes |", "latex": "& yes ", "csv": "True"}
    assert words[style] in text and ("reference" in text) == (style != "csv")


def test_few_common_seeds_have_a_range_and_are_not_told_apart(tmp_path):
    few = read_study(write_study(tmp_path / "study", ["conv+full", "conv+linear"], 3))
    table = comparison(few, "full")
    record = next(record for record in records(table) if record["difference"])
    assert (record["difference_spread"], record["common_seeds"]) == ("range", "3")
    assert record["p"] == record["separates"] == ""
    assert "| - | - |" in tables.as_markdown(table) and " range -" in tables.as_markdown(table)


def test_rows_that_ran_elsewhere_are_marked_and_not_told_apart(tmp_path):
    for seed in range(5):
        write_run(tmp_path / "study", config_of("conv+full", seed))
        write_run(tmp_path / "study", config_of("conv+linear", seed))
        write_run(tmp_path / "study", config_of(WINDOW, seed), environment={"device": "Another CPU"})
    table = comparison(read_study(tmp_path / "study"), "full")
    found = {record["model.attention"]: record for record in records(table)}
    assert (found[WINDOW]["alike"], found[WINDOW]["separates"]) == ("False", "")
    assert (found["conv+linear"]["alike"], found["conv+linear"]["separates"]) == ("True", "True")
    text = tables.as_text(table)
    (line,) = [line for line in text.splitlines() if line.startswith("conv+sliding_window:")]
    assert " * " in line and line.endswith("-") and "\n* ran with other versions or on another device" in text
    assert "Another CPU" in " ".join(text.split()) and text.count(" * ") == 1


def test_tasks_without_the_model_are_left_out_and_named(tmp_path):
    for task, names in (("mqar", ("conv+full", "conv+linear")), ("induction", ("conv+linear",))):
        for name in names:
            write_run(tmp_path / "study", config_of(name, task=task))
    table = comparison(read_study(tmp_path / "study"), "full")
    assert {row.config["task"] for row in table.rows} == {"mqar"}
    assert "Left out, for conv+full is not there: induction." in table.warnings


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("full", "conv+full"),
        ("conv+full", "conv+full"),
        ("sliding_window", WINDOW),
        ("sliding_window:window_size=16", WINDOW),
        ("conv+sliding_window", WINDOW),
    ],
)
def test_a_model_is_named_with_or_without_its_convolution_and_fields(study, name, model):
    assert find_model(study, name) == model


def test_a_name_of_several_models_is_refused_unless_it_is_exact(tmp_path):
    for attention in ("full", "conv+full", "conv+linear:chunk_size=8", "conv+linear:chunk_size=16"):
        write_run(tmp_path / "study", config_of(attention))
    study = read_study(tmp_path / "study")
    assert find_model(study, "full") == "full" and find_model(study, "conv+full") == "conv+full"
    with pytest.raises(ValueError, match="--compare=linear names 2 models; write one of 'conv"):
        find_model(study, "linear")


def test_a_label_names_one_of_several_settings(tmp_path):
    study = read_study(write_study(tmp_path / "study", ["conv+full", "conv+linear"], 1, positions=["none", "rope"]))
    with pytest.raises(ValueError, match="names 2 models"):
        find_model(study, "full")
    assert find_model(study, "full, position=rope") == "conv+full, position=rope"


def test_an_unknown_name_is_told_the_nearest(study):
    with pytest.raises(
        ValueError, match="unknown model 'slidng_window'; valid choices, nearest first: sliding_window:"
    ):
        find_model(study, "slidng_window")
