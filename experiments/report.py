r"""Writes the report of a study from its run folders: one self-contained report.html, and its pictures as PNG and SVG.

python -m experiments.report results/quickstart
"""

import base64
import html
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

from absl import flags

from experiments import cli as command_line
from experiments import table
from experiments.reporting.figures import layout as canvas
from experiments.reporting.figures import registry as figures
from experiments.studies import run_folder as store
from experiments.studies.results import Row, Study, read_study

FLAGS = command_line.new_flags()
_STUDY = flags.DEFINE_string("study", None, "Folder of a study; may stand first, without flag.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; that of the study where not given.", flag_values=FLAGS)


def main() -> int:
    """Runs the command line; returns the exit code."""
    table.study_argument()
    return command_line.execute(run, FLAGS)


def run() -> None:
    """Writes the report and names it."""
    if _STUDY.value is None:
        raise command_line.UsageError("name the folder of a study, such as results/quickstart.")
    print(write_report(_STUDY.value, _OUTPUT.value))


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Writes report.html and the pictures of the study in `folder`; returns the path of report.html.

    Raises:
      ValueError: there is no such study, or none of its runs has ended.
      StorageError: the files cannot be written.
    """
    study, output = read_study(folder), Path(output or folder)
    pictures = {}
    with canvas.style():
        for name, picture in figures.of(study).items():
            figure = picture.draw(study)
            if figure is None:
                continue
            for kind in ("png", "svg"):
                content = canvas.save(figure, kind)
                store.write_file(output / f"{name}.{kind}", content)
            pictures[name] = content
    path = output / "report.html"
    store.write_file(path, as_html(study, pictures))
    return path


def as_html(study: Study, pictures: Mapping[str, bytes]) -> str:
    """Returns the page; `pictures` are SVG files by name of the figure."""
    known = figures.of(study)
    shown = "\n".join(_figure(name, known[name], picture) for name, picture in pictures.items())
    return _PAGE.substitute(
        title=_text(study.name),
        lede=_lede(study),
        facts=_facts(study),
        table=_table(study),
        notes="\n".join(f"<p>{_text(note)}</p>" for note in table.notes(study)),
        figures=shown,
        config=_config(study),
        environment=_environment(study),
        commands="\n".join(_text(command) for command in study.commands),
    )


def _lede(study: Study) -> str:
    """Says in a sentence what was compared."""
    seeds = sorted({row.ended for row in study.rows})
    runs = f"{seeds[0]} to {seeds[-1]} runs" if len(seeds) > 1 else f"{seeds[0]} run{'s' * (seeds[0] > 1)}"
    tasks = _list(f"<code>{_text(task)}</code>" for task in study.by_task)
    if len(study.rows) == 1:
        return f"One model, {runs}, on {tasks}."
    varied = _list(["attention", *(f"<code>{_text(key)}</code>" for key in study.varied)])
    return f"{len(study.rows)} models that differ only in {varied}, {runs} each, on {tasks}."


def _figure(name: str, of: figures.Picture, picture: bytes) -> str:
    heading, caption = _text(of.heading), _text(of.caption)
    data = base64.b64encode(picture).decode()
    return (
        f'<figure id="{name}"><h2>{heading}</h2><div class="scroll">'
        f'<img alt="{heading}" src="data:image/svg+xml;base64,{data}"></div><figcaption>{caption}</figcaption></figure>'
    )


def _table(study: Study) -> str:
    parts = table.columns(study)
    heads = "".join(f"<th>{_text(' '.join(column.heading).strip())}</th>" for column in parts)
    lines = []
    appearance = canvas.looks(study)
    for row in study.rows:
        cells, colour = [], appearance[study.model(row)].colour
        for column in parts:
            detail = column.detail(row)
            small = f"<small>{_text(detail)}</small>" if detail else ""
            best = ' class="best"' if column.heading[1] == "accuracy" and study.best(row) else ""
            cells.append(f"<td{best}>{_breakable(column.cell(row))}{small}</td>")
        head = f'<th style="--c:{colour}">{_breakable(row.attention)}</th><td>{_bar(row, colour)}</td>'
        lines.append(f"<tr>{head}{''.join(cells)}</tr>")
    head = f"<thead><tr><th>attention</th><th>0 to 1</th>{heads}</tr></thead>"
    return f"<table>{head}<tbody>{''.join(lines)}</tbody></table>"


def _breakable(text: str) -> str:
    """Lets a spec be broken between its fields."""
    pieces = "<wbr>".join(_text(piece) for piece in re.split("(?<=[+:,])", text))
    return f'<span class="spec">{pieces}</span>' if ":" in text else pieces


def _bar(row: Row, colour: str) -> str:
    """A score between its floor and its ceiling, as a small picture."""
    if row.accuracy is None:
        return ""
    width, (mean, low, high) = 76, row.accuracy
    floor, ceiling = row.mean("floor") or 0.0, row.mean("ceiling")
    ceiling = 1.0 if ceiling is None else ceiling
    between = f'x="{floor * width:.1f}" width="{max(0, ceiling - floor) * width:.1f}"'
    parts = [
        f'<rect x="0" y="6" width="{width}" height="4" rx="2" fill="#eceff3"/>',
        f'<rect {between} y="6" height="4" fill="#c5ccd6"/>',
        f'<rect x="{ceiling * width - 0.75:.1f}" y="2" width="1.5" height="12" fill="#57606a"/>',
    ]
    if len(row.accuracies) > 1:
        whisker = f'x="{low * width:.1f}" width="{(high - low) * width:.1f}"'
        parts.append(f'<rect {whisker} y="6.5" height="3" fill="{colour}"/>')
    parts.append(f'<circle cx="{mean * width:.1f}" cy="8" r="4" fill="{colour}"/>')
    words = f"floor {floor:.3f}, accuracy {mean:.3f}, ceiling {ceiling:.3f}"
    return f'<svg viewBox="-4 0 84 16" width="84" height="16" role="img"><title>{words}</title>{"".join(parts)}</svg>'


def _facts(study: Study) -> str:
    days = [date[:10] for date in study.dates]
    facts = [" to ".join(dict.fromkeys(days)), *(table.describe_environment(e) for e in study.environments)]
    return " &middot; ".join(_text(fact) for fact in facts if fact)


def _config(study: Study) -> str:
    """What all rows share, and what varies, field by field."""
    lines = []
    for key in study.rows[0].config:
        values = list(dict.fromkeys(str(row.config[key]) for row in study.rows))
        shown = f"<em>{len(values)} values</em>" if len(values) > 1 else _text(values[0])
        lines.append(f"<tr><th>{_text(key)}</th><td>{shown}</td></tr>")
    return f"<table class='plain'>{''.join(lines)}</table>"


def _environment(study: Study) -> str:
    environments = [result["environment"] for row in study.rows for result in row.results]
    shown = []
    for key in dict.fromkeys(key for environment in environments for key in environment):
        values = [str(environment.get(key, "")) for environment in environments]
        shown.append(f"<tr><th>{_text(key)}</th><td>{_text(' / '.join(dict.fromkeys(values)))}</td></tr>")
    return f"<table class='plain'>{''.join(shown)}</table>"


def _list(items: Iterable[str]) -> str:
    *head, last = items
    return f"{', '.join(head)} and {last}" if head else last


def _text(value: Any) -> str:
    return html.escape(str(value))


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title: accuracy against compute</title>
<style>
:root { color-scheme: light; --ink: #22272e; --soft: #57606a; --line: #e1e5ea; --back: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 40px 24px 72px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.01em; }
h2 { font-size: 1.1rem; margin: 0 0 12px; }
.lede { font-size: 1.1rem; max-width: 48em; margin: 0 0 4px; }
.facts { color: var(--soft); font-size: 0.875rem; margin: 0 0 28px; }
section, figure { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px; }
section, figure { margin: 0 0 20px; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.875em; }
code, pre { overflow-wrap: anywhere; white-space: pre-wrap; }
.scroll { overflow-x: auto; }
figure img { display: block; width: 100%; min-width: 560px; max-width: 900px; margin: 0 auto; }
figcaption, .notes { color: var(--soft); font-size: 0.85rem; max-width: 62em; }
figcaption { margin-top: 10px; }
.notes p { margin: 10px 0 0; }
table { border-collapse: collapse; font-size: 0.8125rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 8px 7px; text-align: right; vertical-align: top; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; border-bottom: 1px solid #b8bec6; }
thead th { vertical-align: bottom; white-space: normal; }
tbody tr + tr th, tbody tr + tr td { border-top: 1px solid var(--line); }
thead th:first-child, tbody th { text-align: left; position: sticky; left: 0; background: #fff; }
tbody th { font-weight: 600; white-space: normal; min-width: 11em; border-left: 4px solid var(--c, transparent); }
td small { display: block; color: var(--soft); }
td.best { font-weight: 700; }
td.best small { font-weight: 400; }
.spec { display: inline-block; white-space: normal; text-align: left; }
td svg { vertical-align: -3px; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 20px; align-items: start; }
.columns section { margin: 0; min-width: 0; }
.plain th, .plain td { text-align: left; padding: 4px 8px 4px 0; white-space: normal; overflow-wrap: anywhere; }
.plain th { font-weight: 400; color: var(--soft); border-left: 0; min-width: 0; width: 45%; position: static; }
@media (max-width: 640px) {
  main { padding: 20px 12px 40px; }
  section, figure { padding: 14px; border-radius: 8px; }
  h1 { font-size: 1.5rem; }
  tbody th { min-width: 11em; font-size: 0.75rem; }
}
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="lede">$lede</p>
<p class="facts">$facts</p>
<section>
<h2>Accuracy and cost</h2>
<div class="scroll">$table</div>
<div class="notes">$notes</div>
</section>
$figures
<div class="columns">
<section><h2>Configuration</h2>$config</section>
<section><h2>Environment</h2>$environment<h2 style="margin-top:24px">Command</h2><pre>$commands</pre></section>
</div>
</main>
</body>
</html>
""")

if __name__ == "__main__":
    sys.exit(main())
