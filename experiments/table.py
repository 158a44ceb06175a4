r"""Prints the table of a study from its run folders.

python -m experiments.table results/quickstart
python -m experiments.table results/quickstart --format=markdown --output=table.md
"""

import string
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from experiments import cli as command_line
from experiments.reporting import further
from experiments.reporting.records import as_csv
from experiments.studies import run_folder as store
from experiments.studies.results import CHOOSES_BACKEND, Row, Study, read_study

FLAGS = command_line.new_flags()
_STUDY = flags.DEFINE_string("study", None, "Folder of a study; may stand first, without flag.", flag_values=FLAGS)
_FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "markdown", "csv", "latex"], "How the table is written.", flag_values=FLAGS
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write; the terminal where not given.", flag_values=FLAGS)

_LABEL_WIDTH = 26
EXPLANATION = (
    "Accuracy: mean over n seeds on test rows drawn once, with a 95 % Student interval. Floor: the best shortcut. "
    "Ceiling: what the attention pattern can reach at all; no floor is above it. Solved: runs that reached the "
    "validation target, with a 95 % Wilson interval; steps: the median, unsolved and diverged runs counting as later "
    "than any. Train FLOPs: forward and backward over the steps each run actually took (a run that solves the task "
    "stops), mean over seeds; executed: what the fast path computes; ideal: permitted query-key pairs only, or a "
    "recurrence token by token. Peak: bytes of one training step. State: decoding cache of one sequence at the task's "
    "length, all layers."
)


class Column(NamedTuple):
    """One column: its two-line heading, a cell, and the smaller second line of that cell."""

    heading: tuple[str, str]
    cell: Callable[[Row], str]
    detail: Callable[[Row], str] = lambda row: ""


def columns(study: Study) -> list[Column]:
    """Returns the columns after the first, which names the attention."""

    def varied(key: str) -> Callable[[Row], str]:
        return lambda row: _value(row.varied[key])

    def timed(name: str, unit: str = "") -> Callable[[Row], str]:
        def cell(row: Row) -> str:
            mark = study.mark(row)
            return human(row.median(name), unit) + (f" ({mark})" if mark else "")

        return cell

    def beyond(heading: further.Heading) -> Column:
        show = human if further.is_loss(heading) else _rate

        def within(row: Row) -> str:
            bounds = further.bounds(row).get(heading)
            return f"({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else ""

        return Column(heading, lambda row: show(further.scores(row).get(heading)), within)

    return [
        *(Column(("", key.split(".")[-1]), varied(key)) for key in study.varied),
        Column(("", "accuracy"), _accuracy, _accuracy_interval),
        Column(("", "n"), lambda row: str(len(row.accuracies)), _diverged),
        Column(("", "floor"), lambda row: _rate(row.mean("floor"))),
        Column(("", "ceiling"), lambda row: _rate(row.mean("ceiling"))),
        *map(beyond, further.headings(study)),
        Column(("", "solved"), lambda row: f"{row.solved}/{row.ended}", _solve_interval),
        Column(("steps to", "solve"), lambda row: human(row.steps_to_solve) if row.solved else "-"),
        Column(("", "params"), lambda row: human(row.mean("params")), _control_params),
        Column(("train FLOPs", "executed"), lambda row: human(row.mean("train_flops_executed"))),
        Column(("", "ideal"), lambda row: human(row.mean("train_flops_ideal"))),
        Column(("peak", "memory"), lambda row: human(row.median("peak_bytes"), "B")),
        Column(("ms per", "step"), timed("step_ms")),
        Column(("tokens", "per s"), timed("tokens_per_second")),
        Column(("state", "bytes"), lambda row: human(row.mean("cache_bytes"), "B")),
        *([Column(("task", "bits"), lambda row: human(row.mean("task_bits")))] if _has_bits(study) else []),
    ]


def notes(study: Study) -> list[str]:
    """Returns the sentences that stand below a table: what its numbers mean, and what is missing or not comparable."""
    lines = [EXPLANATION]
    if _has_bits(study):
        lines.append(
            "Task bits: what must be carried from the evidence to the answers. A state that does not grow with length "
            "is charged 8 bits a byte, and the ceiling is no higher than it allows."
        )
    found = further.headings(study)
    if any(further.is_loss(heading) for heading in found):
        lines.append("Error: squared, on the test rows; its floor: the best shortcut. Accuracy: within the tolerance.")
    if not all(map(further.is_loss, found)):
        lines.append(
            "At a length, shifted: accuracy on rows unlike those of training, apart from the test accuracy; in "
            "brackets from their floor to their ceiling."
        )
    if any(study.best(row) for row in study.rows):
        rivals = "row of its task" if "task" in study.varied else "row"
        lines.append(f"Bold (Markdown, LaTeX, HTML): the interval lies above that of every other {rivals}.")
    for label, values in study.selected.items():
        chosen = ", ".join(f"{key}={_value(value)}" for key, value in values.items())
        lines.append(f"Chosen by best mean validation accuracy for {label}: {chosen}.")
    if len(study.environments) > 1:
        for letter, environment in zip(string.ascii_lowercase, study.environments, strict=False):
            lines.append(f"({letter}) {describe_environment(environment)}. Times of different letters do not compare.")
    diverged = sum(row.diverged for row in study.rows)
    for count, what in (
        (diverged, "diverged (NaN or infinity); they count as unsolved"),
        (study.failed, "failed with an error and will be retried by the next run of the study"),
        (study.unfinished, "not finished; the same command continues"),
    ):
        if count:
            lines.append(f"{count} run{'s' if count > 1 else ''} {what}.")
    return lines


def describe_environment(environment: Mapping[str, Any]) -> str:
    """Returns device, cores, versions and flags on one line."""
    versions = [f"{name} {environment[name]}" for name in ("jax", "python") if name in environment]
    versions += [f"{name}={value}" for name, value in environment.get("flags", {}).items() if name != CHOOSES_BACKEND]
    device = f"{environment.get('device', 'unknown device')}, {environment.get('cores', '?')} cores"
    return ", ".join([device, *versions])


def render(study: Study, style: str) -> str:
    """Returns the table in `style`: "text", "markdown", "csv" or "latex"."""
    return {"text": as_text, "markdown": as_markdown, "csv": as_csv, "latex": as_latex}[style](study)


def as_text(study: Study) -> str:
    """Returns the table for a terminal: two lines a row, the second with intervals."""
    parts = columns(study)
    rows = []
    for row in study.rows:
        label = wrap_spec(row.attention, _LABEL_WIDTH)
        cells = [[column.cell(row), column.detail(row).strip("[]").replace(", ", "-")] for column in parts]
        rows += [[line, *cell] for line, cell in _aligned(label, cells)]
    heading = [["", *(column.heading[0] for column in parts)], ["attention", *(column.heading[1] for column in parts)]]
    widths = [max(len(line[index]) for line in heading + rows) for index in range(len(parts) + 1)]
    lines = [
        "  ".join(_pad(text, width, left=i == 0) for i, (text, width) in enumerate(zip(line, widths, strict=True)))
        for line in heading + rows
    ]
    rule = "-" * (sum(widths) + 2 * len(parts))
    body = [line.rstrip() for line in [*lines[:2], rule, *lines[2:], rule]]
    wrapped = [textwrap.fill(note, max(80, len(rule))) for note in notes(study)]
    return "\n".join([f"Study {study.name}", *body, *wrapped])


def as_markdown(study: Study) -> str:
    """Returns the table in GitHub's Markdown, the best row bold where its interval separates."""
    heading, rows = _flat_cells(study, bold="**{}**", code="`{}`")
    lines = [_bars(heading), _bars(["---", *["---:"] * (len(heading) - 1)]), *map(_bars, rows)]
    return "\n".join([*lines, "", *(f"{note}\n" for note in notes(study))]).rstrip()


def as_latex(study: Study) -> str:
    """Returns a tabular for the booktabs package."""
    heading, rows = _flat_cells(study, bold="\\textbf{{{}}}", code="\\texttt{{{}}}", escape=_latex)
    lines = [" & ".join(line) + r" \\" for line in [heading, *rows]]
    comments = [f"% {note}" for note in notes(study)]
    frame = [rf"\begin{{tabular}}{{l{'r' * (len(heading) - 1)}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*comments, *frame, *lines[1:], r"\bottomrule", r"\end{tabular}"])


def human(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Returns a number as people read it: 1234567 -> "1.23M", of bytes "1.23 MB"; "-" for None or an infinite one."""
    if value is None or value in (float("inf"), float("-inf")):
        return "-"
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 0.9995:
            return f"{_significant(value / factor, digits)}{' ' * bool(unit)}{prefix}{unit}"
    return f"{_significant(value, digits)} {unit}".rstrip()


def wrap_spec(spec: str, width: int) -> list[str]:
    """Breaks a spec after '+', ':' and ',' into lines of at most `width` where that is possible."""
    pieces = spec.replace("+", "+\0").replace(":", ":\0").replace(",", ",\0").split("\0")
    lines = [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("  ")
        lines[-1] += piece
    return lines


def main() -> int:
    """Runs the command line; returns the exit code."""
    study_argument()
    return command_line.execute(run, FLAGS)


def study_argument() -> None:
    """Lets the study's folder stand first on the command line, without `--study=`."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"--study={sys.argv[1]}"


def run() -> None:
    """Prints or writes the table."""
    if not _STUDY.value:
        raise command_line.UsageError("name the folder of a study, such as results/quickstart.")
    if _OUTPUT.value == "":
        raise command_line.UsageError("--output= names no file; leave it out to print the table.")
    text = render(read_study(_STUDY.value), _FORMAT.value)
    if _OUTPUT.value is None:
        print(text)
    else:
        store.write_file(Path(_OUTPUT.value), text + "\n")


def _flat_cells(
    study: Study, bold: str, code: str, escape: Callable[[str], str] = str
) -> tuple[list[str], list[list[str]]]:
    """Returns heading and rows of one line each, for Markdown and LaTeX."""
    parts = columns(study)
    heading = ["attention", *(" ".join(column.heading).strip() for column in parts)]
    rows = []
    for row in study.rows:
        cells = [code.format(escape(row.attention))]
        for column in parts:
            text = escape(" ".join(filter(None, (column.cell(row), column.detail(row)))))
            cells.append(bold.format(text) if column.cell is _accuracy and study.best(row) else text)
        rows.append(cells)
    return [escape(text) for text in heading], rows


def _aligned(label: list[str], cells: list[list[str]]) -> list[tuple[str, list[str]]]:
    """Pairs the lines of a label with those of the cells beside it, as many as are needed."""
    height = max(len(label), 2 if any(cell[1] for cell in cells) else 1)
    filled = [[*cell, *[""] * height] for cell in cells]
    return [((label + [""] * height)[line], [cell[line] for cell in filled]) for line in range(height)]


def _has_bits(study: Study) -> bool:
    return any(row.values("task_bits") for row in study.rows)


def _accuracy(row: Row) -> str:
    return _rate(row.accuracy[0]) if row.accuracy else "-"


def _accuracy_interval(row: Row) -> str:
    return _interval(row.accuracy[1], row.accuracy[2], 3) if row.accuracy and len(row.accuracies) > 1 else ""


def _solve_interval(row: Row) -> str:
    return _interval(*row.solve_interval, 2) if row.ended else ""


def _diverged(row: Row) -> str:
    return f"{row.diverged} div." if row.diverged else ""


def _control_params(row: Row) -> str:
    controls = row.mean("control_params")
    return f"+{human(controls)}" if controls else ""


def _interval(low: float, high: float, digits: int) -> str:
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _significant(value: float, digits: int) -> str:
    """Returns so many significant digits and no exponent: 0.01234 -> "0.0123"."""
    text = f"{value:#.{digits}g}".rstrip(".")
    return f"{value:.0f}" if "e+" in text or float(value).is_integer() and abs(value) < 1000 else text


def _pad(text: str, width: int, *, left: bool) -> str:
    return text.ljust(width) if left else text.rjust(width)


def _bars(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, f"\\{character}" if character != "\\" else "\\textbackslash ")
    return text


if __name__ == "__main__":
    sys.exit(main())
