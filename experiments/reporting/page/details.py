"""The runs behind each row of the table: their results, their learning curves, and what was chosen for them."""

import math
from collections.abc import Mapping
from typing import Any

from experiments.reporting.figures.learning_curves import thinned
from experiments.reporting.page.markup import Point, chart, definitions, level, line, mark, spec, text
from experiments.reporting.page.table import row_colours
from experiments.reporting.text import human, plural, rate, setting
from experiments.studies.results import Study
from experiments.studies.rows import Choice, Row

_MOST_POINTS = 90  # of a learning curve; there are thousands of curves on a page
_MOST_TICKS = 7
_COLUMNS = ("seed", "status", "accuracy", "validation", "steps", "solved at", "training time")


def runs_of_rows(study: Study, anchors: Mapping[str, Row]) -> str:
    """Returns a part for each row that can be opened, at its anchor."""
    colours, keys = row_colours(study), _differing(study)
    parts = []
    for anchor, row in anchors.items():
        score = f"accuracy {rate(row.accuracy.mean if row.accuracy else None)}, {plural(row.ended, 'run')}"
        summary = f"<summary><span>{spec(study.label(row))}</span> <small>{score}</small></summary>"
        inside = "".join([_seeds(row), _curves(row), *map(_choice, row.choices), _config(row, keys)])
        opened = f'<div class="inside" id="{anchor}">{inside}</div>'
        parts.append(f'<details class="{colours[study.model(row)]}">{summary}{opened}</details>')
    return "\n".join(parts)


def _seeds(row: Row) -> str:
    """Returns the table of a row's runs."""
    setups = list(dict.fromkeys(row.setups))
    heads = "".join(f'<th scope="col">{name}</th>' for name in [*_COLUMNS, *(["made with"] if len(setups) > 1 else [])])
    lines = []
    for place, (seed, result, setup) in enumerate(zip(row.seeds, row.results, row.setups, strict=True)):
        solved = result["steps_to_solve"]
        cells = [
            text(result["status"]),
            rate(result["test_accuracy"]),
            rate(result["validation_accuracy"]),
            f"{result['steps']:,}",
            "-" if solved is None else f"{solved:,}",
            _training_time(result),
            *([text(setup)] if len(setups) > 1 else []),
        ]
        data = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr data-run="{place}"><th scope="row">{text(seed)}</th>{data}</tr>')
    table = f"<caption>Runs</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody>"
    made = f"All with {setups[0]}. " if len(setups) == 1 else ""
    note = f'<p class="over">{text(made)}Training time: steps times the median time of one.</p>'
    box = '<div class="part wide" role="group" aria-label="Runs" tabindex="0">'
    return f'{box}<table class="seeds">{table}</table>{note}</div>'


def _training_time(result: Mapping[str, Any]) -> str:
    """Returns the time of all steps: what is measured is the time of a step."""
    step = result.get("compute", {}).get("step_ms")
    return "-" if step is None else f"{human(step * result['steps'] / 1000)} s"


def _curves(row: Row) -> str:
    """Returns the chart of validation accuracy, a line for each run."""
    found = {
        place: [(float(m["step"]), float(m["validation_accuracy"])) for m in lines]
        for place, lines in enumerate(row.metrics)
    }
    runs = {place: curve for place, points in found.items() if (curve := [p for p in points if math.isfinite(p[1])])}
    if not runs:
        return ""
    last = max(step for curve in runs.values() for step, _ in curve) or 1.0
    floor, ceiling = row.tests[0].floor, row.tests[0].ceiling
    bounds = [level(floor, "floor")] if floor is not None else []
    bounds += [level(ceiling, "ceiling")] if ceiling is not None else []
    lines, words = [], []
    for place, curve in runs.items():
        points = [(step / last, score) for step, score in thinned(curve, _MOST_POINTS)]
        if len(points) == 1:
            points = [(0.0, points[0][1]), *points]
        lines.append(line(points, f'class="curve" data-run="{place}"'))
        words.append(f"seed {row.seeds[place]} ends at {curve[-1][1]:.3f} after {curve[-1][0]:,.0f} steps")
    ticks = {0.0: "0", 1.0: f"{last:,.0f} steps"}
    drawing = chart(f"Validation accuracy by step: {'; '.join(words)}", ticks, [*bounds, *lines])
    keys = [name for name, known in (("floor dashed", floor), ("ceiling dotted", ceiling)) if known is not None]
    note = "; ".join(["Validation accuracy by step, a line for each seed", *keys])
    return f'<figure class="part">{drawing}<figcaption>{note}</figcaption></figure>'


def _choice(choice: Choice) -> str:
    """Returns the chart of what was tried, and its numbers."""
    name = choice.key.split(".")[-1].replace("_", " ")
    points = _places(choice)
    radii = [4.5 if value == choice.value else 2.5 for value, _ in choice.curve]
    dots = [mark(point, radius) for point, radius in zip(points, radii, strict=True)]
    written = {
        x: setting(value) for (x, _), (value, _) in zip(points, choice.curve, strict=True) if len(points) <= _MOST_TICKS
    }
    tried = [
        f"{text(setting(value))}&nbsp;gives&nbsp;{score:.3f}{' (chosen)' if value == choice.value else ''}"
        for value, score in choice.curve
    ]
    note = f"Mean validation accuracy by {text(name)}: {', '.join(tried)}"
    drawing = chart(f"Validation accuracy by {name}", written, [line(points, 'class="curve"'), *dots])
    return f'<figure class="part">{drawing}<figcaption>{note}</figcaption></figure>'


def _places(choice: Choice) -> list[Point]:
    """Returns the points of a curve of choices, evenly spaced: values are tried in steps of a factor."""
    last = max(1, len(choice.curve) - 1)
    return [(place / last, score) for place, (_, score) in enumerate(choice.curve)]


def _differing(study: Study) -> list[str]:
    """Returns the keys in which the configs of rows differ."""
    keys = dict.fromkeys(key for row in study.rows for key in row.config)
    return [key for key in keys if len({str(row.config.get(key)) for row in study.rows}) > 1]


def _config(row: Row, keys: list[str]) -> str:
    if not keys:
        return ""
    cells = {key: spec(setting(row.config.get(key))) for key in keys}
    return f'<div class="part differ"><p class="over">Config, where rows differ</p>{definitions(cells)}</div>'
