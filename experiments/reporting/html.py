"""The report of a study: one page that needs no other file, and its pictures as PNG and SVG next to it."""

import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from experiments.reporting import tables
from experiments.reporting.column import Cell
from experiments.reporting.columns import columns, size_marks
from experiments.reporting.figures import layout, registry
from experiments.reporting.figures.style import FAINT, save, style
from experiments.reporting.text import describe_environment, listed, plural
from experiments.studies.results import Study, read_study
from experiments.studies.rows import TestScore
from experiments.studies.whole_files import write_file

_BAR = 76  # pixels, of accuracy 1


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Writes report.html and the pictures of the study in `folder`, by default there; returns the path of report.html.

    Raises:
      ValueError: there is no such study, or none of its runs has ended.
      StorageError: the files cannot be written.
    """
    study, output = read_study(folder), Path(output or folder)
    pictures = {}
    with style():
        for name, picture in registry.pictures(study).items():
            figure = picture.draw(study)
            if figure is None:
                continue
            for kind in ("png", "svg"):
                content = save(figure, kind)
                write_file(output / f"{name}.{kind}", content)
            pictures[name] = content
    path = output / "report.html"
    write_file(path, page(study, pictures))
    return path


def page(study: Study, pictures: Mapping[str, bytes]) -> str:
    """Returns the page; `pictures` are SVG files by name of the figure."""
    known = registry.pictures(study)
    return _PAGE.substitute(
        title=_text(study.name),
        lede=_lede(study),
        facts=_facts(study),
        table=_table(study),
        notes="\n".join(f"<p>{_text(note)}</p>" for note in tables.notes(study)),
        figures="\n".join(_figure(name, known[name], picture) for name, picture in pictures.items()),
        config=_config(study),
        environment=_environment(study),
        commands="\n".join(_text(command) for command in study.commands),
    )


def _lede(study: Study) -> str:
    """Says in a sentence what was compared, and where models differ in more than that."""
    seeds = sorted({row.ended for row in study.rows})
    runs = plural(seeds[0], "run") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} runs"
    tasks = listed(f"<code>{_text(task)}</code>" for task in study.by_task)
    if len(study.rows) == 1:
        return f"One model, {runs}, on {tasks}."
    varied = listed(["attention", *(f"<code>{_text(key)}</code>" for key in study.varied)])
    sizes = [f"{mark} {_text(text)}" for mark, text in size_marks(study).items()]
    differ = f"differ in {varied} and, where marked, in size ({listed(sizes)})" if sizes else f"differ only in {varied}"
    return f"{len(study.rows)} models that {differ}, {runs} each, on {tasks}."


def _figure(name: str, picture: registry.Picture, svg: bytes) -> str:
    heading, caption = _text(picture.heading), _text(picture.caption)
    data = base64.b64encode(svg).decode()
    return (
        f'<figure id="{name}"><h2>{heading}</h2><div class="scroll">'
        f'<img alt="{heading}" src="data:image/svg+xml;base64,{data}"></div><figcaption>{caption}</figcaption></figure>'
    )


def _table(study: Study) -> str:
    first, *others = [column for column in columns(study) if column.shown]
    heads = "".join(f"<th>{_text(title)}</th>" for title in (first.title, "0 to 1", *(c.title for c in others)))
    appearance, lines = layout.looks(layout.shown(study)), []
    for row in study.rows:
        look = appearance.get(study.model(row))
        colour = look.colour if look else FAINT  # of what no picture shows
        head = f'<th style="--c:{colour}">{_marked(first.cell(row))}</th><td>{_bar(row.tests[0], colour)}</td>'
        lines.append(f"<tr>{head}{''.join(_cell(column.cell(row)) for column in others)}</tr>")
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _cell(cell: Cell) -> str:
    detail = tables.interval_text(cell.detail)
    small = f"<small>{_text(detail)}</small>" if detail else ""
    best = ' class="best"' if cell.best else ""
    return f"<td{best}>{_marked(cell)}{small}</td>"


def _marked(cell: Cell) -> str:
    """Returns text and mark; a spec may be broken between its fields."""
    text = "<wbr>".join(_text(piece) for piece in re.split("(?<=[+:,])", cell.text))
    text += f"&nbsp;{_text(cell.mark)}" if cell.mark else ""
    return f'<span class="spec">{text}</span>' if ":" in cell.text else text


def _bar(score: TestScore, colour: str) -> str:
    """Returns a small picture of a score between its floor and its ceiling."""
    if score.accuracy is None:
        return ""
    mean, low, high, _ = score.accuracy
    floor, ceiling = score.floor or 0.0, 1.0 if score.ceiling is None else score.ceiling
    between = f'x="{floor * _BAR:.1f}" width="{max(0, ceiling - floor) * _BAR:.1f}"'
    parts = [
        f'<rect x="0" y="6" width="{_BAR}" height="4" rx="2" fill="#eceff3"/>',
        f'<rect {between} y="6" height="4" fill="#c5ccd6"/>',
        f'<rect x="{ceiling * _BAR - 0.75:.1f}" y="2" width="1.5" height="12" fill="#57606a"/>',
    ]
    if score.accuracy.kind:
        whisker = f'x="{low * _BAR:.1f}" width="{(high - low) * _BAR:.1f}"'
        parts.append(f'<rect {whisker} y="6.5" height="3" fill="{colour}"/>')
    parts.append(f'<circle cx="{mean * _BAR:.1f}" cy="8" r="4" fill="{colour}"/>')
    words = f"floor {floor:.3f}, accuracy {mean:.3f}, ceiling {ceiling:.3f}"
    return f'<svg viewBox="-4 0 84 16" width="84" height="16" role="img"><title>{words}</title>{"".join(parts)}</svg>'


def _facts(study: Study) -> str:
    days = " to ".join(dict.fromkeys(date[:10] for date in study.dates))
    facts = [days, *map(describe_environment, study.environments)]
    return " &middot; ".join(_text(fact) for fact in facts if fact)


def _config(study: Study) -> str:
    """Returns a table of what all rows share, and of what varies, field by field."""
    keys = dict.fromkeys(key for row in study.rows for key in row.config)
    values = {key: list(dict.fromkeys(str(row.config.get(key)) for row in study.rows)) for key in keys}
    return _plain_table({key: f"<em>{len(v)} values</em>" if len(v) > 1 else _text(v[0]) for key, v in values.items()})


def _environment(study: Study) -> str:
    environments = [result["environment"] for row in study.rows for result in row.results]
    keys = dict.fromkeys(key for environment in environments for key in environment)
    values = {key: dict.fromkeys(str(environment.get(key, "")) for environment in environments) for key in keys}
    return _plain_table({key: _text(" / ".join(found)) for key, found in values.items()})


def _plain_table(cells: Mapping[str, str]) -> str:
    lines = "".join(f"<tr><th>{_text(key)}</th><td>{cell}</td></tr>" for key, cell in cells.items())
    return f"<table class='plain'>{lines}</table>"


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
