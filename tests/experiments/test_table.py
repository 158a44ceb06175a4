"""Rows and tables, from made-up run folders."""

import csv
import io
import re
import sys

import pytest

from experiments import report, table
from experiments.reporting import further
from experiments.studies import grid as study
from experiments.studies.results import natural, read_study
from tests.experiments.fake_study import ENVIRONMENT, KINDS, write_run, write_study

SHORT = ["conv+full", "conv+linear"]


def config_of(attention: str, seed: int = 0, **train):
    config = study.complete({"model": {"attention": attention}, "train": train}, "test")
    return config | {"seed": seed}


def row_of(summary, attention: str):
    return next(row for row in summary.rows if row.attention == attention)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("results") / "toy")


def test_one_row_per_cell_best_first(toy):
    summary = read_study(toy)
    assert len(summary.rows) == len(KINDS) and summary.varied == () and summary.name == "toy"
    means = [row.accuracy[0] for row in summary.rows]
    assert means == sorted(means, reverse=True)
    full = summary.rows[0]
    assert full.attention == "conv+full" and full.ended == 3 and full.solved == 3
    assert full.accuracy[1] < full.accuracy[0] <= full.accuracy[2] <= 1.0


def test_text_is_readable_on_a_terminal(toy):
    text = table.render(read_study(toy), "text")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 140 and text.isascii()
    (line,) = [line for line in lines if line.startswith("conv+full")]
    assert "0.997" in line and "3/3" in line and "33.9k" in line and "66.3 kB" in line and "885G" in line
    assert "window_size=16+linear" in text and "+132" in text


def test_markdown_is_a_table_with_the_separated_best_in_bold(toy):
    lines = table.render(read_study(toy), "markdown").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(KINDS) and len({line.count("|") for line in rows}) == 1
    assert "**0.997 [" in rows[2] and not any("**" in line for line in rows[3:])


def test_latex_is_balanced_and_escaped(toy):
    text = table.render(read_study(toy), "latex")
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + len(KINDS) and len({line.count("&") for line in body}) == 1
    assert r"\texttt{conv+sliding\_window:window\_size=16}" in text and r"\textbf{0.997" in text
    assert text.count("{") == text.count("}")
    outside_comments = [line for line in text.splitlines() if not line.startswith("%")]
    assert not any(line.replace(r"\%", "").count("%") for line in outside_comments)


def test_csv_has_the_numbers_in_full(toy):
    summary = read_study(toy)
    records = list(csv.DictReader(io.StringIO(table.render(summary, "csv"))))
    assert [record["model.attention"] for record in records] == [row.attention for row in summary.rows]
    assert float(records[0]["accuracy"]) == summary.rows[0].accuracy[0]
    assert float(records[0]["cache_bytes"]) == 66304 and records[2]["steps_to_solve_median"] == ""


def test_nothing_is_bold_where_intervals_overlap_or_one_seed_says_nothing(tmp_path):
    for name, seeds, scores in (("overlap", 3, (0.90, 0.50, 0.70)), ("single", 1, (0.9,))):
        for seed in range(seeds):
            write_run(tmp_path / name, config_of("conv+full", seed), test_accuracy=scores[seed])
            write_run(tmp_path / name, config_of("conv+linear", seed), test_accuracy=0.6 + 0.01 * seed)
        summary = read_study(tmp_path / name)
        assert not any(summary.best(row) for row in summary.rows), name
        assert "**" not in table.render(summary, "markdown")


def test_other_varied_keys_get_columns_and_other_tasks_are_no_rivals(tmp_path):
    for task in ("mqar:length=64,num_pairs=4", "induction"):
        for attention in SHORT:
            for seed in range(2):
                config = config_of(attention, seed, steps=200 if task == "induction" else 1000) | {"task": task}
                write_run(tmp_path / "study", config)
    summary = read_study(tmp_path / "study")
    assert summary.varied == ("task", "train.steps") and len(summary.rows) == 4
    assert [summary.best(row) for row in summary.rows] == [True, False, True, False]
    assert "induction" in table.render(summary, "text") and ",task,train.steps," in table.render(summary, "csv")


def test_ranges_of_lengths_stand_in_order_of_their_middle():
    assert further.middle("128") == 128 and further.middle("41-80") == 60.5
    headings = [("accuracy", f"at {length}") for length in ("161-320", "41-80", "128")]
    assert sorted(headings, key=further._rank) == [headings[1], headings[2], headings[0]]


def test_a_label_names_flags_where_they_are_set(tmp_path):
    for bidirectional, steps in ((False, 200), (True, 200), (True, 1000)):
        config = config_of("conv+full", 0, steps=steps)
        config["model"] = config["model"] | {"bidirectional": bidirectional}
        write_run(tmp_path / "study", config)
    summary = read_study(tmp_path / "study")
    labels = ["conv+full, steps=200", "conv+full, bidirectional, steps=1000", "conv+full, bidirectional, steps=200"]
    assert sorted(summary.label(row) for row in summary.rows) == sorted(labels)


def test_tasks_stand_in_order_of_size_everywhere(tmp_path):
    lengths = (64, 128, 256, 1024)
    tasks = {length: f"mqar:length={length},num_pairs=8,vocab_size=1024" for length in (256, 1024, 64, 128)}
    summary = read_study(write_study(tmp_path / "study", SHORT, 1, list(tasks.values())))
    ordered = [tasks[length] for length in lengths]
    assert list(summary.by_task) == ordered
    assert [row.config["task"] for row in summary.rows] == [task for task in ordered for _ in SHORT]
    for style in ("text", "markdown", "csv", "latex"):
        text = table.render(summary, style).replace("\\_", "_")
        assert [text.index(task) for task in ordered] == sorted(text.index(task) for task in ordered)
    page = re.sub("</?(wbr|span)[^>]*>", "", report.as_html(summary, {}))
    assert re.findall(r"<td>(mqar:[^<]*)", page) == [task for task in ordered for _ in SHORT]


def test_natural_order_is_that_of_the_numbers():
    ordered = ["a", "a:x=0.05", "a:x=1e-1", "a:x=0.5", "a:x=2", "a:x=10", "a:x=10,y=3", "a:y", "b"]
    assert sorted(reversed(ordered), key=natural) == ordered
    assert natural("a:x=1") != natural("a:x=1.0")


def test_models_are_what_is_left_without_the_task_and_what_belongs_to_it(tmp_path):
    for task, steps in (("mqar", 200), ("induction", 400)):
        for attention in SHORT:
            for rate in (0.1, 0.2):
                config = config_of(attention, steps=steps, learning_rate=rate) | {"task": task}
                write_run(tmp_path / "study", config, test_accuracy=rate + 0.5 * (attention == "conv+linear"))
    summary = read_study(tmp_path / "study")
    assert set(summary.varied) == {"task", "train.steps", "train.learning_rate"}
    assert summary.models == [f"{name}, learning_rate={rate}" for name in reversed(SHORT) for rate in (0.2, 0.1)]
    for rows in summary.by_task.values():
        assert sorted(map(summary.model, rows)) == sorted(summary.models)


def test_selection_is_by_validation_and_never_by_test(tmp_path):
    for rate, validation, test in ((0.01, 0.9, 0.2), (0.001, 0.3, 0.99)):
        for seed in range(3):
            config = config_of("conv+full", seed, learning_rate=rate)
            config["study"]["select"] = ("train.learning_rate",)
            write_run(tmp_path / "study", config, validation_accuracy=validation, test_accuracy=test)
    summary = read_study(tmp_path / "study")
    (row,) = summary.rows
    assert row.accuracy[0] == pytest.approx(0.2) and summary.varied == ()
    assert "for conv+full: train.learning_rate=0.01." in table.render(summary, "text")


def test_diverged_runs_stay_in_the_denominator_failed_and_unfinished_are_told(tmp_path):
    folder = tmp_path / "study"
    write_run(folder, config_of("conv+full", 0))
    write_run(folder, config_of("conv+full", 1), status="diverged", steps_to_solve=None, test_accuracy=0.2)
    write_run(folder, config_of("conv+full", 2), status="diverged", steps_to_solve=None, test_accuracy=None)
    write_run(folder, config_of("conv+full", 3), status="failed", error="boom")
    (write_run(folder, config_of("conv+full", 4)) / "result.json").unlink()
    summary = read_study(folder)
    (row,) = summary.rows
    assert (row.ended, row.solved, row.diverged, len(row.accuracies)) == (3, 1, 2, 2)
    assert row.steps_to_solve is None
    text = " ".join(table.render(summary, "text").split())
    assert "2 runs diverged" in text and "1 run failed" in text and "1 run not finished" in text and " 1/3 " in text


def test_times_of_other_devices_carry_a_footnote(tmp_path):
    write_run(tmp_path / "study", config_of("conv+full"))
    write_run(tmp_path / "study", config_of("conv+linear"), environment={"device": "Another CPU"})
    summary = read_study(tmp_path / "study")
    assert sorted(summary.mark(row) for row in summary.rows) == ["a", "b"]
    text = table.render(summary, "text")
    assert "63.1 (" in text and "Another CPU" in text and "do not compare" in text
    same = [ENVIRONMENT | {"numpy": version} for version in ("1", "2")]  # numpy does not change step times
    for seed, environment in enumerate(same):
        write_run(tmp_path / "same", config_of("conv+full", seed), environment=environment)
    assert "(a)" not in table.render(read_study(tmp_path / "same"), "text")
    for seed, flags in enumerate(({}, {"JAX_PLATFORMS": "cpu"}, {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"})):
        write_run(tmp_path / "flags", config_of("conv+full", seed), environment={"flags": flags})
    summary = read_study(tmp_path / "flags")
    told_apart = sorted((environment["flags"] for environment in summary.environments), key=len)
    assert told_apart == [{}, flags]  # the backend is recorded beside them
    assert "fast_math=true. Times" in " ".join(table.render(summary, "text").split())


def test_two_spellings_of_one_spec_are_one_cell(tmp_path):
    write_run(tmp_path / "study", config_of("conv+linear", 0))
    KINDS["conv + linear"] = KINDS["conv+linear"]
    try:
        write_run(tmp_path / "study", config_of("conv + linear", 1))
    finally:
        del KINDS["conv + linear"]
    (row,) = read_study(tmp_path / "study").rows
    assert row.ended == 2


def test_scores_on_other_rows_stand_apart_and_only_where_there_are_some(tmp_path):
    def score(accuracy: float, floor: float = 0.1, ceiling: float = 1.0) -> dict[str, float]:
        return {"accuracy": accuracy, "loss": 1.0, "floor": floor, "ceiling": ceiling}

    task = config_of("conv+full")["task"]
    for seed in range(2):
        lengths = {"1024": score(0.25, 0.02 * seed, 0.5 + 0.1 * seed), "256": score(0.5 + 0.1 * seed)}
        shifted = {f"{task},power=1.0": score(0.75), "induction:vocab_size=64": score(0.125)}
        write_run(tmp_path / "study", config_of("conv+full", seed), lengths=lengths, shifted=shifted)
    write_run(tmp_path / "study", config_of("conv+linear"), lengths={"256": score(0.875)})
    summary = read_study(tmp_path / "study")
    headings = ["accuracy at 256", "accuracy at 1024", "shifted: power=1.0", "shifted: induction:vocab_size=64"]
    markdown = table.render(summary, "markdown")
    heading, _, *rows = [[cell.strip() for cell in line.split("|")] for line in markdown.splitlines() if "|" in line]
    first = heading.index(headings[0])
    assert heading[first : first + 4] == headings and "apart from the test accuracy" in markdown
    cells = ["0.550 (0.10 to 1.00)", "0.250 (0.01 to 0.55)", "0.750 (0.10 to 1.00)", "0.125 (0.10 to 1.00)"]
    assert [row[first : first + 4] for row in rows[:2]] == [cells, ["0.875 (0.10 to 1.00)"] + 3 * ["-"]]
    (full, linear) = csv.DictReader(io.StringIO(table.render(summary, "csv")))
    assert float(full[headings[0]]) == pytest.approx(0.55) and linear[headings[2]] == ""
    bounds = [float(full[f"{headings[1]}, {bound}"]) for bound in ("floor", "ceiling")]
    assert bounds == pytest.approx([0.01, 0.55]) and linear[f"{headings[1]}, ceiling"] == ""
    assert float(full["accuracy"]) == summary.rows[0].accuracy[0]


def test_what_stands_apart_is_told_nowhere_else(toy):
    text = table.render(read_study(toy), "markdown")
    assert not any(word in text for word in ("accuracy at", "shifted", "task bits", "error", "Task bits"))


def test_bits_of_the_task_are_a_column_where_they_are_known(tmp_path):
    write_run(tmp_path / "study", config_of("conv+full"))
    write_run(tmp_path / "study", config_of("conv+linear"), task_bits=47.6, state_bits=139_264)
    text = table.render(read_study(tmp_path / "study"), "text")
    (line,) = [line for line in text.splitlines() if line.startswith("conv+linear")]
    assert line.endswith("47.6") and "Task bits: what must be carried" in text


def test_numbers_are_answered_with_an_error(tmp_path):
    write_run(tmp_path / "study", config_of("conv+full") | {"task": "adding"}, test_loss=0.00125)
    text = table.render(read_study(tmp_path / "study"), "markdown")
    assert "mean sq. error | floor of error" in text and "0.00125 | 0.167" in text and "within the tolerance" in text


@pytest.mark.parametrize(
    "value, unit, text",
    [
        (None, "", "-"),
        (0, "", "0"),
        (7, "", "7"),
        (0.01234, "", "0.0123"),
        (999, "", "999"),
        (999.7, "", "1.00k"),
        (1000, "", "1k"),
        (1_234_567, "", "1.23M"),
        (33_920, "B", "33.9 kB"),
        (512, "B", "512 B"),
        (1.5e13, "", "15T"),
        (float("inf"), "", "-"),
    ],
)
def test_human(value, unit, text):
    assert table.human(value, unit) == text


def test_the_command_line(toy, tmp_path, monkeypatch, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        for name in table.FLAGS:
            table.FLAGS[name].unparse()
        monkeypatch.setattr(sys, "argv", ["table", *arguments])
        code = table.main()
        return code, *capsys.readouterr()

    assert run(str(toy))[0] == 0
    assert run(f"--study={toy}", "--format=csv")[1].startswith("model.attention,")
    assert run(str(toy), "--format=latex", f"--output={tmp_path / 'table.tex'}")[:2] == (0, "")
    assert (tmp_path / "table.tex").read_text().startswith("%")
    for arguments, message in (
        ([], "name the folder of a study"),
        ([""], "name the folder of a study"),
        ([str(toy), "extra"], "'extra'"),
        ([str(toy), "--output="], "--output= names no file"),
        ([str(toy.parent / "toyy")], f"studies near: {toy}"),
        ([str(toy.parent)], f"studies near: {toy}"),
        ([str(toy), "--format=word"], "word"),
        ([str(toy), "--fromat=csv"], "--format"),
    ):
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and err.count("\n") == 1 and message in err, (arguments, err)
