"""The four formats of a table: each has every row and number, and nothing in it is taken for markup."""

import csv
import io
import shutil

import pytest

from experiments.reporting import tables
from experiments.reporting.columns import columns
from experiments.studies.results import read_study
from tests.experiments.fake_study import HYBRID, KINDS, config_of, score, write_run, write_study

SHORT = ["conv+full", "conv+linear"]
HARD = "conv+full:note=a|b_*<&%$#{~^\\`>"  # whatever a spec might hold


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return read_study(write_study(tmp_path_factory.mktemp("results") / "toy", seeds=5))


@pytest.fixture
def hard(tmp_path):
    for seed in range(2):
        write_run(tmp_path / "hard", config_of(HARD, seed, task="mqar:note=x|y"))
        write_run(tmp_path / "hard", config_of("conv+full", seed), tests=[score("shifted", "mqar:note=1|2", 0.5)])
    return read_study(tmp_path / "hard")


def markdown_cells(text):
    """Returns the cells of a Markdown table as GitHub reads them: a bar that is escaped is text."""
    lines = [line.replace(r"\|", "\0") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\0", "|") for cell in line.strip("|").split("|")] for line in lines]


def test_text_is_readable_on_a_terminal(toy):
    text = tables.render(toy, "text")
    lines = text.splitlines()
    others = len([column for column in columns(toy) if column.shown]) - 1
    width, limit = max(map(len, lines)), 40 + 9 * others  # 7 characters a column on average, and 2 before it
    assert width <= limit, f"the table is {width} wide, at most {limit}: shorten the lines of a heading"
    (line,) = [line for line in lines if line.startswith("conv+full")]
    assert "0.998" in line and "5/5" in line and "33.9k" in line and "66.3 kB" in line and "929G" in line
    assert "window_size=16+linear" in text and "+132" in text


def test_text_has_intervals_on_a_line_of_their_own(toy):
    first, second = tables.render(toy, "text").splitlines()[4:6]
    _, low, high, _ = toy.rows[0].accuracy
    assert f" {low:.3f}-{high:.3f} " in second and "-" not in first.split()[1]


def test_markdown_is_a_table_with_the_separated_best_in_bold(toy):
    rows = [line for line in tables.render(toy, "markdown").splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(KINDS) and len({line.count("|") for line in rows}) == 1
    assert "**0.998 [" in rows[2] and not any("**" in line for line in rows[3:])


def test_latex_is_balanced(toy):
    text = tables.render(toy, "latex")
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + len(KINDS) and len({line.count("&") for line in body}) == 1
    assert r"\texttt{conv+sliding\_window:window\_size=16}" in text and r"\textbf{0.998" in text
    assert text.count("{") == text.count("}")
    outside_comments = [line for line in text.splitlines() if not line.startswith("%")]
    assert not any(line.replace(r"\%", "").count("%") for line in outside_comments)


def test_csv_has_the_numbers_in_full(toy):
    records = list(csv.DictReader(io.StringIO(tables.render(toy, "csv"))))
    assert [record["model.attention"] for record in records] == [row.attention for row in toy.rows]
    assert float(records[0]["accuracy"]) == toy.rows[0].accuracy.mean
    assert float(records[0]["cache_bytes"]) == 66304 and records[2]["steps_to_solve_median"] == ""


def test_every_format_has_every_column(toy):
    titles = [column.title for column in columns(toy) if column.shown]
    assert markdown_cells(tables.render(toy, "markdown"))[0] == titles
    assert all(title.split()[-1] in tables.render(toy, "text").splitlines()[2] for title in titles)
    (heading,) = [line for line in tables.render(toy, "latex").splitlines() if line.startswith("attention &")]
    assert heading.removesuffix(r" \\").split(" & ") == titles
    names = [name for column in columns(toy) for name in column.record(toy.rows[0])]
    assert tables.render(toy, "csv").splitlines()[0].split(",") == names


def test_a_model_of_another_size_is_marked_and_the_mark_explained(toy):
    note = "† 3 layers instead of 2: not the same model."
    assert note in tables.notes(toy)
    for style in ("text", "markdown", "latex"):
        assert note in tables.render(toy, style)
    assert f"`{HYBRID}` † |" in tables.render(toy, "markdown") and r"+linear} \dag{} &" in tables.render(toy, "latex")
    assert "linear †" in tables.render(toy, "text") and "†" not in tables.render(toy, "csv")


def test_without_other_sizes_there_is_no_mark(tmp_path):
    study = read_study(write_study(tmp_path / "study", SHORT, 1))
    assert not any(
        "†" in tables.render(study, style) or "layers where" in tables.render(study, style) for style in tables.STYLES
    )


def test_bars_in_a_spec_do_not_end_a_cell_of_markdown(hard):
    cells = markdown_cells(tables.render(hard, "markdown"))
    assert {len(line) for line in cells} == {len(cells[0])}
    assert f"``{HARD}``" in [line[0] for line in cells], "in code nothing but the bar is escaped"
    assert "mqar:note=x|y" in [line[1] for line in cells] and "shifted: mqar:note=1|2" in cells[0]


def test_markup_outside_code_is_escaped_in_markdown(tmp_path):
    for task in ("mqar", r"mqar:note=*a*<b>_c_\d"):
        write_run(tmp_path / "study", config_of("conv+full", task=task))
    text = tables.render(read_study(tmp_path / "study"), "markdown")
    assert r"mqar:note=\*a\*\<b>\_c\_\\d" in text and "conv+full" in text


def test_latex_escapes_what_it_would_read_as_commands(hard):
    text = tables.render(hard, "latex")
    escaped = (
        r"note=a\textbar{}b\_*\textless{}\&\%\$\#\{\textasciitilde{}\textasciicircum{}\textbackslash{}`\textgreater{}"
    )
    assert escaped in text and r"mqar:note=x\textbar{}y" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in body}) == 1


def test_csv_reads_back_whatever_specs_hold(hard):
    records = list(csv.DictReader(io.StringIO(tables.render(hard, "csv"))))
    assert {record["model.attention"] for record in records} == {"conv+full", HARD}
    assert {record["task"] for record in records} >= {"mqar:note=x|y"} and "shifted: mqar:note=1|2" in records[0]


def test_no_text_of_csv_is_a_formula(tmp_path):
    for task in ("=HYPERLINK(1)", "+1", "-1", "@a", "mqar"):
        write_run(tmp_path / "study", config_of("conv+full", task=task), accuracy=-0.5)
    records = csv.DictReader(io.StringIO(tables.render(read_study(tmp_path / "study"), "csv")))
    assert {record["task"] for record in records} == {"'=HYPERLINK(1)", "'+1", "'-1", "'@a", "mqar"}


def test_one_diverged_run_counts_and_two_count(tmp_path):
    for seed, words in enumerate(
        ("1 run diverged (NaN or infinity) and counts", "2 runs diverged (NaN or infinity) and count ")
    ):
        write_run(tmp_path / "study", config_of("conv+full", seed), status="diverged")
        assert words in tables.render(read_study(tmp_path / "study"), "markdown")


def test_notes_explain_only_what_is_there(toy, tmp_path):
    text = tables.render(toy, "markdown")
    assert not any(word in text for word in ("at a length", "shifted", "ask bits", "error", "cannot be compared"))
    write_run(tmp_path / "study", config_of("conv+full", task="adding"), task_bits=3, tests=[score("length", "9", 0.5)])
    text = tables.render(read_study(tmp_path / "study"), "markdown")
    for words in ("tests on other rows", "Task bits: what", "Floor of error", "tolerance"):
        assert text.count(words) == 1, words


def test_notes_tell_what_was_chosen_what_is_missing_and_what_does_not_compare(tmp_path):
    folder = tmp_path / "study"
    for seed, rate in enumerate((0.01, 0.001)):
        config = config_of("conv+full", seed, learning_rate=rate)
        config["study"]["select"] = ("train.learning_rate",)
        write_run(folder, config, validation_accuracy=rate)
    for seed in (2, 3):
        config = config_of("conv+full", seed, learning_rate=0.01)
        write_run(folder, config, status="diverged", steps_to_solve=None, environment={"device": "Another CPU"})
    write_run(folder, config_of("conv+full", 4), status="failed", error="boom")
    (write_run(folder, config_of("conv+full", 5)) / "result.json").unlink()
    text = " ".join(tables.render(read_study(folder), "text").split())
    assert "Chosen learning rate: by best mean validation accuracy of the row" in text and " 0.01 > " in text
    assert "Another CPU, 2 cores, jax 0.10.2, python 3.11.2. Times with different letters cannot be compared." in text
    assert "(a) " in text and "(b) " in text
    assert "2 runs diverged" in text and "1 run failed" in text and "1 run did not finish" in text


def test_a_row_that_chose_among_fewer_values_than_its_rivals_is_noted(tmp_path):
    for attention, rates in (("conv+full", (0.01, 0.001)), ("conv+linear", (0.01,))):
        for rate in rates:
            config = config_of(attention, learning_rate=rate)
            config["study"]["select"] = ("train.learning_rate",)
            write_run(tmp_path / "study", config, validation_accuracy=rate)
    lines = tables.warnings(read_study(tmp_path / "study"))
    assert [line.partition(":")[0] for line in lines] == ["1 row chose among fewer values than another row of the task"]
    shutil.rmtree(next(path.parent for path in tmp_path.glob("study/*/config.json") if "0.001" in path.read_text()))
    assert tables.warnings(read_study(tmp_path / "study")) == []


def test_bold_is_explained_by_the_rivals(tmp_path, toy):
    assert any("every other row," in note for note in tables.notes(toy))
    study = read_study(write_study(tmp_path / "study", SHORT, 5, ["mqar", "induction"]))
    assert any("every other row of its task," in note for note in tables.notes(study))


@pytest.mark.parametrize("change", [{"device": "Another CPU"}, {"jax": "0.0.1"}])
def test_rows_of_one_task_that_ran_elsewhere_are_noted_in_every_table_and_none_is_bold(tmp_path, change, toy):
    for seed in range(5):
        write_run(tmp_path / "study", config_of("conv+full", seed))
        write_run(tmp_path / "study", config_of("conv+linear", seed), environment=change)
    study = read_study(tmp_path / "study")
    for style in ("text", "markdown", "latex"):
        text = " ".join(tables.render(study, style).split())
        assert "Rows of one task ran with different versions or devices" in text and next(iter(change.values())) in text
        assert "**" not in text and "textbf" not in text
        assert "different versions or devices" not in tables.render(toy, style)
    assert any("different versions or devices" in line for line in tables.warnings(study)), "said beside CSV"


def test_a_range_is_called_so_in_every_format(tmp_path):
    study = read_study(write_study(tmp_path / "study", SHORT, 3))
    _, low, high, _ = study.rows[0].accuracy
    for style in ("text", "markdown", "latex"):
        assert f"range {low:.3f}-{high:.3f}" in tables.render(study, style) and "Student" not in tables.render(
            study, style
        )
    (record, _) = csv.DictReader(io.StringIO(tables.render(study, "csv")))
    assert (record["accuracy_spread"], float(record["accuracy_low"])) == ("range", low)


def test_tasks_stand_in_order_of_size_in_every_format(tmp_path):
    tasks = {length: f"mqar:length={length},num_pairs=8,vocab_size=1024" for length in (256, 1024, 64, 128)}
    study = read_study(write_study(tmp_path / "study", SHORT, 1, list(tasks.values())))
    ordered = [tasks[length] for length in sorted(tasks)]
    for style in tables.STYLES:
        text = tables.render(study, style).replace("\\_", "_")
        assert [text.index(task) for task in ordered] == sorted(text.index(task) for task in ordered)


@pytest.mark.parametrize(
    "accuracies, above", [((0.55, 0.53), True), ((0.55, 0.49), False), ((0.51, 0.51), False), ((0.4, 0.5), False)]
)
def test_a_table_says_where_a_model_beats_its_ceiling(tmp_path, accuracies, above):
    """One run, or a little, may do so by chance."""
    for seed, accuracy in enumerate(accuracies):
        write_run(tmp_path / "study", config_of("conv+linear", seed), test_accuracy=accuracy, ceiling=0.5, tests=[])
    said = "1 row above the ceiling, such as conv+linear. No model can be" in "\n".join(
        tables.warnings(read_study(tmp_path / "study"))
    )
    assert said == above
