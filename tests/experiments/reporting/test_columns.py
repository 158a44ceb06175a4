"""Columns: each number is there in full, and there where the study has it."""

import pytest

from experiments.reporting.column import Interval
from experiments.reporting.columns import columns, size_marks
from experiments.studies.results import read_study
from tests.experiments.fake_study import HYBRID, config_of, score, task_facts, write_run, write_study


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return read_study(write_study(tmp_path_factory.mktemp("results") / "toy", seeds=5))


def column_of(study, key):
    (column,) = [column for column in columns(study) if column.key == key]
    return column


def shown(study):
    return [column.title for column in columns(study) if column.shown]


def row_of(study, attention):
    return next(row for row in study.rows if row.attention == attention)


def test_names_of_values_are_unique_and_every_row_has_all_of_them(toy):
    names = [[name for column in columns(toy) for name in column.record(row)] for row in toy.rows]
    twice = {name for name in names[0] if names[0].count(name) > 1}
    assert not twice, f"two columns give these values of CSV; see `key` and `more` in columns.py: {twice}"
    assert all(each == names[0] for each in names)


def test_every_shown_column_has_a_heading_of_its_own(toy):
    assert len(set(shown(toy))) == len(shown(toy)) and "" not in shown(toy)


def test_an_accuracy_has_an_interval_and_stands_out_where_it_is_the_best(toy):
    column = column_of(toy, "accuracy")
    best, second, *_ = toy.rows
    assert column.value(best) == best.accuracy.mean and column.cell(best).best and not column.cell(second).best
    assert column.cell(best).detail == Interval(best.accuracy.low, best.accuracy.high, 3, "interval")
    record = column.record(best)
    assert (record["accuracy_low"], record["accuracy_high"]) == (best.accuracy.low, best.accuracy.high)
    assert record["accuracy_spread"] == "interval"
    assert [c.key for c in columns(toy) for row in toy.rows if c.cell(row).best] == ["accuracy"]


@pytest.mark.parametrize(
    ("seeds", "kind", "words"),
    [(1, "", "drawn once."), (3, "range", "once, with the range"), (5, "interval", "with a 95")],
)
def test_few_seeds_have_a_range_that_is_called_so_and_nothing_bold(tmp_path, seeds, kind, words):
    study = read_study(write_study(tmp_path / "study", ["conv+full", "conv+linear"], seeds))
    column = column_of(study, "accuracy")
    for row in study.rows:
        record, detail = column.record(row), column.cell(row).detail
        assert record["accuracy_spread"] == kind and (detail.kind if detail else "") == kind
        assert record["accuracy_low"] == (row.accuracy.low if kind else None)
    assert words in column.note and ("range" in column.note) == (kind == "range")
    assert any(column.cell(row).best for row in study.rows) == (kind == "interval")


def test_parameters_of_controls_are_given_apart(toy):
    column = column_of(toy, "params")
    assert column.cell(row_of(toy, "conv+linear"))[:3] == ("33.9k", "", "+132")
    assert column.cell(row_of(toy, "conv+full")).detail == ""
    assert column.record(row_of(toy, "conv+linear"))["control_params"] == 132


def test_a_model_of_another_size_has_a_mark(toy):
    marks = {row.attention: column_of(toy, "model.attention").cell(row).mark for row in toy.rows}
    assert {attention for attention, mark in marks.items() if mark} == {HYBRID} and marks[HYBRID] == "†"
    assert column_of(toy, "params").record(row_of(toy, HYBRID))["layers"] == 3


def test_each_other_size_has_its_own_mark(tmp_path):
    for layers in (2, 2, 2, 1, 4, 4):
        config = config_of(f"conv+full:made_up={len(list(tmp_path.glob('study/*')))}")
        write_run(tmp_path / "study", config, model={"layers": layers, "model_dim": 64, "mlp_dim": 0})
    study = read_study(tmp_path / "study")
    marks = {row.size.layers: column_of(study, "model.attention").cell(row).mark for row in study.rows}
    assert marks[2] == "" and size_marks(study) == {
        marks[1]: "1 layer instead of 2",
        marks[4]: "4 layers instead of 2",
    }
    assert set(size_marks(study)) == {"†", "‡"}


def test_keys_that_vary_have_a_column_each(tmp_path):
    for steps in (200, 1000):
        for rate in (0.1, 0.001):
            write_run(tmp_path / "study", config_of("conv+full", steps=steps, learning_rate=rate))
    study = read_study(tmp_path / "study")
    titles = [key.split(".")[-1] for key in study.varied]
    assert shown(study)[:4] == ["attention", *titles, "accuracy"] and set(titles) == {"steps", "learning_rate"}
    assert {column_of(study, "train.learning_rate").cell(row).text for row in study.rows} == {"0.1", "0.001"}


def test_tests_on_other_rows_have_a_column_each_lengths_in_order_of_size_first(tmp_path):
    values = ["1024", "256", "41-80", "60"]
    lengths = [score("length", value, 0.25, floor=0.01, ceiling=0.55) for value in values]
    shifted = [score("shifted", "mqar:power=1.0", 0.75, label="power=1.0"), score("shifted", "induction", 0.125)]
    write_run(tmp_path / "study", config_of("conv+full"), tests=[*shifted, *lengths])
    write_run(tmp_path / "study", config_of("conv+linear"), tests=lengths[:1])
    study = read_study(tmp_path / "study")
    headings = [f"accuracy at {value}" for value in ("60", "41-80", "256", "1024")]
    headings += ["shifted: power=1.0", "shifted: induction"]
    first = shown(study).index(headings[0])
    assert shown(study)[first : first + 6] == headings
    full, linear = (row_of(study, attention) for attention in ("conv+full", "conv+linear"))
    column = column_of(study, "accuracy at 1024")
    assert column.cell(linear)[:3] == ("0.250", "", "(0.01 to 0.55)")
    names = [column.key, f"{column.key}, floor", f"{column.key}, ceiling"]
    assert column.record(linear) == dict(zip(names, (0.25, 0.01, 0.55), strict=True))
    assert column_of(study, "shifted: induction").cell(linear)[:3] == ("-", "", "")
    assert column_of(study, "shifted: induction").record(linear)["shifted: induction, floor"] is None
    assert column_of(study, "accuracy").value(full) == full.accuracy.mean


def test_a_shifted_task_that_rows_call_by_several_names_has_one_column_under_its_spec(tmp_path):
    for attention, label in (("conv+full", "length=32"), ("conv+linear", "length=32, num_pairs=2")):
        tests = [score("shifted", "mqar:length=32", 0.5, label=label)]
        write_run(tmp_path / "names", config_of(attention), tests=tests)
    study = read_study(tmp_path / "names")
    assert [title for title in shown(study) if "shifted" in title] == ["shifted: mqar:length=32"]
    tests = [score("shifted", spec, 0.5, label="harder") for spec in ("mqar:num_pairs=2", "mqar:num_pairs=3")]
    write_run(tmp_path / "tasks", config_of("conv+full"), tests=tests)
    study = read_study(tmp_path / "tasks")
    titles = [title for title in shown(study) if "shifted" in title]
    assert titles == ["shifted: mqar:num_pairs=2", "shifted: mqar:num_pairs=3"]


def test_what_a_study_does_not_have_has_no_column(toy):
    assert not any(word in title for title in shown(toy) for word in ("at ", "shifted", "bits", "error"))
    assert column_of(toy, "task_bits").value(toy.rows[0]) is None, "CSV always has it"


def test_bits_of_the_task_are_a_column_where_they_are_known(tmp_path):
    write_run(tmp_path / "study", config_of("conv+full"))
    write_run(tmp_path / "study", config_of("conv+linear"), task_bits=47.6, state_bits=139_264)
    study = read_study(tmp_path / "study")
    column = column_of(study, "task_bits")
    assert column.shown and column.cell(row_of(study, "conv+linear")).text == "47.6"


def test_what_was_chosen_is_a_column_with_a_mark_at_the_edge(tmp_path, toy):
    assert not any("chosen" in title for title in shown(toy))
    for attention, best in (("conv+full", 0.01), ("conv+linear", 0.003), ("conv+strided_sparse:stride=8", 0.001)):
        for rate in (0.001, 0.003, 0.01):
            config = config_of(attention, learning_rate=rate)
            config["study"]["select"] = ("train.learning_rate",)
            write_run(tmp_path / "study", config, validation_accuracy=0.9 if rate == best else 0.5)
    study = read_study(tmp_path / "study")
    column = column_of(study, "train.learning_rate")
    cells = {row.attention: column.cell(row) for row in study.rows}
    assert {name: (cell.text, cell.mark) for name, cell in cells.items()} == {
        "conv+full": ("0.01", ">"),
        "conv+linear": ("0.003", ""),
        "conv+strided_sparse:stride=8": ("0.001", "<"),
    }
    assert column.title == "chosen learning rate"
    record = column.record(row_of(study, "conv+linear"))
    assert record == {
        "train.learning_rate": 0.003,
        "train.learning_rate, curve": "0.001: 0.5; 0.003: 0.9; 0.01: 0.5",
        "train.learning_rate, edge": 0,
        "train.learning_rate, best": 0.9,
        "train.learning_rate, median": 0.5,
        "train.learning_rate, window": None,
    }


def test_the_layers_surroundings_are_a_column_where_they_are_a_papers(tmp_path, toy):
    assert "layer" not in shown(toy)
    for attention in ("conv+full", "conv+linear"):
        config = config_of(attention)
        config["model"]["layer"] = "paper"
        write_run(tmp_path / "study", config)
    study = read_study(tmp_path / "study")
    assert column_of(study, "model.layer").cell(study.rows[0]).text == "paper"


def test_accuracy_on_unseen_rows_is_a_column_where_rows_repeat(tmp_path, toy):
    assert not any("unseen" in title for title in shown(toy))
    write_run(tmp_path / "study", config_of("conv+full"), repeated_rows=0.25, unseen_accuracy=0.5)
    write_run(tmp_path / "study", config_of("conv+linear"), repeated_rows=1.0, unseen_accuracy=None)
    study = read_study(tmp_path / "study")
    cells = [column_of(study, "unseen_accuracy").cell(row_of(study, name)) for name in ("conv+full", "conv+linear")]
    assert [(cell.text, cell.detail) for cell in cells] == [("0.500", "25.0% rep."), ("-", "100.0% rep.")]


def test_answers_that_are_numbers_have_an_error_and_its_floor(tmp_path):
    write_run(tmp_path / "study", config_of("conv+full", task="adding"), test_loss=0.00125)
    study = read_study(tmp_path / "study")
    texts = {title: column_of(study, title).cell(study.rows[0]).text for title in ("mean sq. error", "floor of error")}
    assert texts == {"mean sq. error": "0.00125", "floor of error": "0.167"}


def test_answers_that_are_distributions_have_a_divergence_and_its_floor(tmp_path):
    facts = task_facts("copying") | {"tolerance": 0.05, "distributions": True, "loss_floor": 0.25}
    write_run(tmp_path / "study", config_of("conv+full", task="copying"), test_loss=0.125, task=facts)
    study = read_study(tmp_path / "study")
    texts = {title: column_of(study, title).cell(study.rows[0]).text for title in ("KL divergence", "floor of error")}
    assert texts == {"KL divergence": "0.125", "floor of error": "0.250"} and "mean sq. error" not in shown(study)


def test_times_carry_the_letter_of_their_environment_where_there_are_several(tmp_path, toy):
    write_run(tmp_path / "study", config_of("conv+full"))
    write_run(tmp_path / "study", config_of("conv+linear"), environment={"device": "Another CPU"})
    study = read_study(tmp_path / "study")
    assert sorted(column_of(study, "step_ms_median").cell(row).mark for row in study.rows) == ["(a)", "(b)"]
    assert column_of(toy, "step_ms_median").cell(toy.rows[0]).mark == ""


def test_a_matched_study_says_how_far_its_rows_are_off(tmp_path, toy):
    assert "mismatch" not in [column.key for column in columns(toy)]
    match = {"quantity": "state", "target": 200, "spent": 190, "mismatch": -0.05, "by": "window_size"}
    for attention, stored in (("conv+full", {}), ("conv+linear", {"match": match})):
        write_run(tmp_path / "study", config_of(attention), **stored)
    study = read_study(tmp_path / "study")
    column = column_of(study, "mismatch")
    assert column.title == "state off by" and "mismatch" in {name for name in column.record(study.rows[0])}
    assert {row.attention: column.cell(row).text for row in study.rows} == {"conv+full": "-", "conv+linear": "-5.0%"}
