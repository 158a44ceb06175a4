"""The pictures of the page: SVG files as data, with dark colours, and links over the marks of rows."""

import base64
import re
from collections.abc import Mapping
from typing import NamedTuple

from experiments.reporting.column import spread
from experiments.reporting.figures.registry import Picture
from experiments.reporting.figures.style import FAINT, HIDDEN, INK
from experiments.reporting.page.markup import text
from experiments.reporting.tables import interval_text
from experiments.reporting.text import human, plural, rate, setting
from experiments.studies.results import Study
from experiments.studies.rows import Row

_REACH = 9  # radius of the clickable area around a mark, in points
# What a dark page, see report.css, shows instead of neutral colours of the pictures, and of two too dark for it.
_DARK = {
    **{"#ffffff": "#15181b", INK: "#dde2e7", "#57606a": "#a9b2bb", FAINT: "#8a929c", "#b8bec6": "#59626b"},
    **{"#e8ebef": "#282d32", HIDDEN: "#30363c", "#cccccc": "#3a424b", "#000000": "#dde2e7"},
    **{"#0072b2": "#4aa3df", "#4d4d4d": "#b8b8b8"},
}


class _Mark(NamedTuple):
    """Where a picture shows a row, in points."""

    anchor: str
    x: float
    y: float


def figure(name: str, picture: Picture, svg: bytes, study: Study, anchors: Mapping[str, Row]) -> str:
    """Returns a picture with its heading and caption; marks of rows lead to their anchors."""
    drawing = svg.decode()
    width, height = (float(size) for size in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)[0])
    marks = [mark for mark in _marks(drawing) if mark.anchor in anchors]
    data = base64.b64encode(_embedded(drawing).encode()).decode()
    heading, models = text(picture.heading), len(study.models)
    of = f"Of {plural(models, 'model')} the most accurate is {study.models[0]}" if models > 1 else study.models[0]
    alt = f"{heading}. {text(of)}. The table has the numbers."
    image = (
        f'<img alt="{alt}" width="{width:.0f}" height="{height:.0f}" decoding="async" '
        f'src="data:image/svg+xml;base64,{data}">'
    )
    links = "".join(_link(mark, anchors[mark.anchor]) for mark in marks)
    over = f'<svg class="points" viewBox="0 0 {width:g} {height:g}" role="group" aria-label="Rows">{links}</svg>'
    hint = ' <span class="hint">Point at a mark for its numbers; choose it to open its runs.</span>' if links else ""
    return (
        f'<figure id="{name}" aria-labelledby="{name}-heading"><h2 id="{name}-heading">{heading}</h2>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="Picture: {heading}">'
        f'<div class="plot">{image}{over if links else ""}</div></div>'
        f"<figcaption>{text(picture.caption)}{hint}</figcaption></figure>"
    )


def _marks(drawing: str) -> list[_Mark]:
    """Returns the marks that carry the anchor of a row, from left to right."""
    found = re.findall(r'<g id="(row-\w+)">(?:(?!</g>).)*?<use [^>]*?x="([\d.-]+)" y="([\d.-]+)"', drawing, re.DOTALL)
    return sorted((_Mark(anchor, float(x), float(y)) for anchor, x, y in found), key=lambda mark: (mark.x, mark.y))


def _link(mark: _Mark, row: Row) -> str:
    """Returns the link over a mark; its title says what the row's line in the table begins with."""
    around, ceiling = interval_text(spread(row.accuracy)), row.tests[0].ceiling
    varied = ", ".join(f"{key.split('.')[-1]} {setting(value)}" for key, value in row.varied.items())
    lines = [
        row.attention,
        *filter(None, [varied]),
        " ".join(filter(None, ["accuracy", rate(row.accuracy.mean if row.accuracy else None), around])),
        *([f"ceiling {ceiling:.3f}"] if ceiling is not None else []),
        f"{human(row.mean('train_flops_executed'))} FLOPs of training, {human(row.mean('cache_bytes'), 'B')} of state",
        plural(row.ended, "run"),
    ]
    title = f"<title>{text(chr(10).join(lines))}</title>"
    return f'<a href="#{mark.anchor}">{title}<circle cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="{_REACH}"/></a>'


def _embedded(drawing: str) -> str:
    """Returns a picture for the page: without what it does not need, and with colours for a dark page.

    An image follows the colour scheme of the element that shows it, and so the choice of the reader.
    """
    drawing = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r"(?<![\w#])(-?\d+\.\d{3})\d+", r"\1", drawing)  # thousandths of a point
    drawing = re.sub(r"\n\s*", "\n", drawing)
    rules = "".join(
        f'[style*="{what}: {colour.lower()}"]{{{what}:{dark}!important}}'
        for colour, dark in _DARK.items()
        for what in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme:dark){{svg{{fill:{_DARK[INK]}}}{rules}}}</style>"
    return re.sub(r"(<svg [^>]*>)", lambda found: found.group() + style, drawing, count=1)
