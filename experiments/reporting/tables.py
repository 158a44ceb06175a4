"""The table of a study as text, Markdown, LaTeX and CSV, and the notes below it."""

import csv
import functools
import io
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from experiments.reporting.column import Cell, Column, Interval
from experiments.reporting.columns import TIMES, columns, environment_letters, size_marks
from experiments.reporting.score_columns import rising_notes
from experiments.reporting.text import describe_environment, human, one_line, plural, wrap_spec
from experiments.studies.intervals import LEAST
from experiments.studies.results import Study
from experiments.studies.rows import Row
from experiments.studies.scores import ACCURACY

_LABEL_WIDTH = 26
_PROBLEMS = 10  # named below a table
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"†": r"\dag{}", "‡": r"\ddag{}", "§": r"\S{}", "¶": r"\P{}"},
}


Choose = Callable[[list[Column]], list[Column]]  # which of all columns a table has


class Table(NamedTuple):
    """What every format renders: the cells of `columns` in `rows`, and the notes below them."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str]
    warnings: Sequence[str]  # further notes: what is missing or not comparable; printed beside a format without notes

    @property
    def shown(self) -> list[Column]:
        """The columns of all formats but CSV."""
        return [column for column in self.columns if column.shown]


def render(study: Study, style: str) -> str:
    """Returns the table of a study in a style, one of `STYLES`."""
    return STYLES[style](of_study(study))


def of_study(study: Study, choose: Choose = list) -> Table:
    """Returns the table of a study, with those of its columns that `choose` returns, given all."""
    parts = choose(columns(study))
    notes = [
        explanations(parts),
        *rising_notes(study),
        *size_notes(study),
        *_best_note(study, parts),
        *_environments(study, parts),
        *_searched(study, parts),
        *_lanes(study),
    ]
    return Table(study.title, parts, study.rows, notes, warnings(study))


def as_text(table: Table) -> str:
    """Returns the table for a terminal: two lines for each row, the second one with intervals."""
    first, *others = table.shown
    lines = [[first.heading[line], *(column.heading[line] for column in others)] for line in (0, 1)]
    for row in table.rows:
        label = wrap_spec(_marked(first.cell(row)), _LABEL_WIDTH)
        cells = [column.cell(row) for column in others]
        parts = [[_marked(cell), interval_text(cell.detail, "{}{}{}")] for cell in cells]
        height = max(len(label), 2 if any(detail for _, detail in parts) else 1)
        filled = [[*part, *[""] * height] for part in [label, *parts]]
        lines += [[part[line] for part in filled] for line in range(height)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    rule = "-" * (sum(widths) + 2 * len(others))
    wrapped = [textwrap.fill(note, max(80, len(rule))) for note in _all_notes(table)]
    return "\n".join([table.title, *aligned[:2], rule, *aligned[2:], rule, *wrapped])


def as_markdown(table: Table) -> str:
    """Returns the table in GitHub's Markdown, the best row bold if it is distinguishably best."""
    heading, rows = _one_line_cells(table, _markdown, _markdown_code, "**{}**")
    rule = ["---", *["---:"] * (len(heading) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in [heading, rule, *rows]]
    return "\n\n".join(["\n".join(lines), *map(_markdown, _all_notes(table))])


def as_latex(table: Table) -> str:
    """Returns a tabular for the booktabs package."""
    heading, rows = _one_line_cells(table, _latex, lambda text: f"\\texttt{{{_latex(text)}}}", "\\textbf{{{}}}")
    first, *others = [rf"{' & '.join(line)} \\" for line in [heading, *rows]]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(heading) - 1)}}}"
    frame = [begin, r"\toprule", first, r"\midrule", *others, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*(f"% {one_line(note)}" for note in _all_notes(table)), *frame])


def as_csv(table: Table) -> str:
    """Returns a line per row with all numbers at full precision."""
    records = [
        {_plain(name): _plain(value) for column in table.columns for name, value in column.record(row).items()}
        for row in table.rows
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().rstrip()


STYLES: dict[str, Callable[[Table], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "csv": as_csv,
    "latex": as_latex,
}


def notes(study: Study) -> list[str]:
    """Returns the notes below a table: what its numbers mean, what was chosen, what is missing or not comparable."""
    return _all_notes(of_study(study))


def warnings(study: Study) -> list[str]:
    """Returns what is missing from a study, and what in it is not comparable."""
    return [*_mixed_setups(study), *_above_ceiling(study), *_choosing(study), *incomplete(study)]


def _above_ceiling(study: Study) -> list[str]:
    above = [row for row in study.rows if row.above_ceiling]
    if not above:
        return []
    return [
        f"{plural(len(above), 'row')} above the ceiling, such as {study.label(above[0])}. No model can be: a ceiling, "
        "a pattern, or the evidence that the task names is wrong."
    ]


def _choosing(study: Study) -> list[str]:
    """Says where rows are not what their last command would have chosen."""
    lines = {
        "of the search alone: no run that is to be reported has ended.": sum(row.provisional for row in study.rows),
        "chose among fewer values than another row of the task: runs of the search are missing, or were added for some "
        "rows alone.": _of_fewer_values(study),
        "for which another value than the chosen one was trained on the reported seeds: what commands of this study "
        "vary or select has changed. The choice is only among what ran on the seeds that choose.": sum(
            row.passed_over for row in study.rows
        ),
    }
    found = [f"{plural(number, 'row')} {line}" for line, number in lines.items() if number]
    if len(study.selects) > 1 and not study.members:
        asked = " and ".join(", ".join(select) or "nothing" for select in study.selects)
        found.append(f"Some runs were trained to select {asked}, each; the choice was among all of their values.")
    return found


def _of_fewer_values(study: Study) -> int:
    """Returns how many rows chose among fewer values than another row of their task."""
    return sum(
        any(len(choice.curve) < max(len(other.curve) for other in others) for choice, *others in columns)
        for rows in study.by_task.values()
        for columns in (zip(row.choices, *(other.choices for other in rows), strict=False) for row in rows)
    )


def explanations(parts: Sequence[Column]) -> str:
    """Returns the notes of the columns that are shown."""
    return " ".join(dict.fromkeys(column.note for column in parts if column.shown and column.note))


def _all_notes(table: Table) -> list[str]:
    return [*filter(None, table.notes), *table.warnings]


def size_notes(study: Study) -> list[str]:
    """Returns what the marks of models of another size mean."""
    return [f"{mark} {text}: not the same model." for mark, text in size_marks(study).items()]


def interval_text(interval: str | Interval, form: str = "[{0}, {2}]") -> str:
    """Returns a cell's detail as text: an interval in the given form of low end, dash and high end, a range as one."""
    if isinstance(interval, str):
        return interval
    show = human if interval.digits is None else functools.partial(_fixed, digits=interval.digits)
    low, high = map(show, interval[:2])
    dash = " to " if interval.low < 0 else "-"
    return f"range {low}{dash}{high}" if interval.kind == "range" else form.format(low, dash, high)


def _fixed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _best_note(study: Study, parts: Sequence[Column]) -> list[str]:
    if not any(column.best(row) for column in parts for row in study.rows):
        return []
    better = "more accurate" if study.metric is ACCURACY else "better"
    rivals = "row of its task" if "task" in study.varied else "row"
    return [
        f"Bold (Markdown, LaTeX, HTML): {better} than every other {rivals}, each paired difference over at least "
        f"{LEAST} common seeds told from 0 (t test, p at most 0.05 by Holm's correction for the number of rows)."
    ]


def _mixed_setups(study: Study) -> list[str]:
    if not study.mixed_setups:
        return []
    return [
        f"Rows of one task ran with different versions or devices ({'; '.join(map(str, study.mixed_setups))}): their "
        "scores may differ for that reason alone, so such rows are never told apart, and none above them is bold."
    ]


def _environments(study: Study, parts: Sequence[Column]) -> list[str]:
    if len(study.environments) == 1 or not any(column.key in TIMES for column in parts):
        return []
    described = zip(environment_letters(study), map(describe_environment, study.environments), strict=True)
    return [f"({letter}) {text}. Times with different letters cannot be compared." for letter, text in described]


def _searched(study: Study, parts: Sequence[Column]) -> list[str]:
    """Says where runs that chose for a row ran, if no row ran there, and if what they cost is shown."""
    if not any(column.key in (*TIMES, "search_flops") for column in parts):
        return []
    rows = (
        f"; those of the rows on {describe_environment(study.environments[0])}" if len(study.environments) == 1 else ""
    )
    return [f"Some runs that only chose ran on {describe_environment(each)}{rows}." for each in study.searched_in]


def _lanes(study: Study) -> list[str]:
    """Says which rows were trained at once, where any were."""
    numbers = sorted({environment["vmap_seeds"] for environment in study.environments if "vmap_seeds" in environment})
    if not numbers:
        return []
    which = "Runs" if all("vmap_seeds" in environment for environment in study.environments) else "Some runs"
    return [
        f"{which} were trained {' or '.join(map(str, numbers))} at once, by --vmap_seeds: time and peak memory "
        "of such a run are its share."
    ]


def incomplete(study: Study) -> list[str]:
    """Returns what is missing: runs that did not end well, and whatever is damaged or foreign in the folder."""
    diverged = sum(row.diverged for row in study.rows)
    counts = {
        f"diverged (NaN or infinity) and {'counts' if diverged == 1 else 'count'} as unsolved": diverged,
        "failed with an error and will be repeated by the next run of the study": study.failed,
        "did not finish; the same command continues with what is left": study.unfinished,
    }
    return [f"{plural(count, 'run')} {what}." for what, count in counts.items() if count] + _problems(study)


def _problems(study: Study) -> list[str]:
    """Returns the first problems of the folder, and how many more there are."""
    first, more = study.problems[:_PROBLEMS], len(study.problems) - _PROBLEMS
    return [*first, *([f"And {plural(more, 'problem')} more in the folder of the study."] if more > 0 else [])]


def _one_line_cells(
    table: Table, escape: Callable[[str], str], code: Callable[[str], str], bold: str
) -> tuple[list[str], list[list[str]]]:
    """Returns heading and rows for Markdown and LaTeX, every text escaped once."""
    first, *others = table.shown
    rows = []
    for row in table.rows:
        label = first.cell(row)
        cells = [" ".join(filter(None, [code(label.text), escape(label.mark)]))]
        for cell in (column.cell(row) for column in others):
            text = escape(" ".join(filter(None, [_marked(cell), interval_text(cell.detail)])))
            cells.append(bold.format(text) if cell.best else text)
        rows.append(cells)
    return [escape(column.title) for column in (first, *others)], rows


def _marked(cell: Cell) -> str:
    return f"{cell.text} {cell.mark}".rstrip()


def _plain(value: Any) -> Any:
    """Returns a value for CSV; a text that a spreadsheet would take as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def _markdown(text: str) -> str:
    """Escapes what Markdown, or a table in it, would take as markup; an underscore within a word is none."""
    return re.sub(r"[\\|*<`]|(?<!\w)_|_(?!\w)", lambda found: f"\\{found.group()}", one_line(text))


def _markdown_code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{one_line(text)}{fence}".replace("|", "\\|")


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in one_line(text))
