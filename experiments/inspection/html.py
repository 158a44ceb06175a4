"""Attention maps as one page that needs no other file: point at a token to see where it looks."""

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from experiments.config.run import Run
from experiments.inspection import pictures, tables
from experiments.inspection.head_scores import HeadScore, head_scores
from experiments.inspection.maps import Look, Map, evidence_keys
from experiments.inspection.pictures import MOST_CELLS, binned
from experiments.inspection.tables import Ablated
from experiments.reporting.figures import style
from experiments.reporting.page import assets
from experiments.reporting.page.markup import spec, text
from experiments.tasks.base import Batch, Task

MOST_ROWS = 8  # of the task that a page can show
_PARTS = Path(__file__).parent / "page"
_LARGEST = 2**15 - 1  # of the integers that represent weights
_HIDDEN = -(2**15)


def page(run: Run, look: Look, rows: Batch, ablated: Sequence[Ablated]) -> str:
    """Returns the page of a run.

    Args:
      run: the trained run.
      look: what its model does on `rows`.
      rows: of the task; the page shows the first `MOST_ROWS`, and scores are means over all.
      ablated: accuracies without parts of the model.
    """
    style_sheet, script = assets.style_sheet(_PARTS / "inspect.css"), assets.script(_PARTS / "inspect.js")
    scores = head_scores(look.maps, rows)
    longest = max((max(each.pattern.shape) for each in look.maps), default=0)
    binning = "A cell is the sum over the keys of a bin, averaged over its queries." if longest > MOST_CELLS else ""
    return Template((_PARTS / "inspect.html").read_text()).substitute(
        style=style_sheet,
        style_digest=assets.digest(style_sheet),
        script=script,
        script_digest=assets.digest(script),
        title=text(run.model.attention),
        lede=f"What the heads of one trained model look at, on <code>{spec(run.config.task)}</code>.",
        facts=f"seed {run.seed} &middot; run {run.digests.run}",
        picture=_picture(look.maps, rows, run.task),
        binned=binning,
        rows=len(rows.inputs),
        scores=_scores(scores),
        ablations=_ablations(ablated),
        data=_embedded(data(look.maps, rows, run.task)),
    )


def data(maps: Sequence[Map], rows: Batch, task: Task) -> dict[str, Any]:
    """Returns what the page's script draws.

    For each map and row: the weights of a head as 16-bit integers, low byte first, in units of "scales"; -32768 is what
    the pattern hides.
    """
    shown = range(min(MOST_ROWS, len(rows.inputs)))
    return {
        "rows": [_labels(rows, row, task) for row in shown],
        "maps": [_head(each, head, rows, len(shown)) for each in maps for head in range(each.weights.shape[1])],
    }


def _head(found: Map, head: int, rows: Batch, shown: int) -> dict[str, Any]:
    hidden = pictures.hidden_cells(found)
    weights, scales = zip(
        *(_whole(binned(found.by_token[row, head], MOST_CELLS), hidden) for row in range(shown)), strict=True
    )
    first = np.shape(rows.inputs)[1] if found.site.part == "cross" else 0
    lengths = found.pattern.shape
    evidence: list[Any] = [[]] * shown
    if found.site.part != "encoder" and max(lengths) <= MOST_CELLS:
        evidence = [
            np.argwhere(marked).tolist() for marked in evidence_keys(rows, (lengths[0], lengths[1]), first)[:shown]
        ]
    context = {"encoder": ("context", "context"), "cross": ("row", "context")}.get(found.site.part, ("row", "row"))
    return {
        "name": f"{found.site}, head {head + 1}",
        "queries": hidden.shape[0],
        "keys": hidden.shape[1],
        "query_labels": context[0],
        "key_labels": context[1],
        "weights": weights,
        "scales": scales,
        "evidence": evidence,
    }


def _whole(weights: np.ndarray, hidden: np.ndarray) -> tuple[str, float]:
    """Returns weights as text, and the unit in which they are written."""
    largest = float(np.abs(weights).max())
    unit = largest / _LARGEST if largest > 0 else 1.0
    whole = np.where(hidden, _HIDDEN, np.rint(weights / unit)).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode(), unit


def _labels(rows: Batch, row: int, task: Task) -> dict[str, list[str]]:
    """Returns the tokens of a row, and of its context, as people read them."""
    context = () if rows.context is None else rows.context[row]
    return {"row": _tokens(np.asarray(rows.inputs)[row], task), "context": _tokens(np.asarray(context), task)}


def _tokens(sequence: np.ndarray, task: Task) -> list[str]:
    if sequence.ndim > 1:  # channels
        names = [str(place + 1) for place in range(len(sequence))]
    else:
        names = [task.token_text(int(token)) for token in sequence]
    if len(names) <= MOST_CELLS:
        return names
    bins = np.arange(len(names)) * MOST_CELLS // len(names)
    firsts = [int(np.argmax(bins == number)) for number in range(MOST_CELLS)]
    return [f"{first + 1}" for first in firsts]


def _picture(maps: Sequence[Map], rows: Batch, task: Task) -> str:
    """Returns the maps of the first row as the address of an image, for pages without script."""
    if not maps:
        return "data:,"
    with style.style():
        image = style.save(pictures.draw_maps(maps, rows, 0, task), "png")
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _scores(scores: Sequence[HeadScore]) -> str:
    if not scores:
        return "<p>The model has no attention.</p>"
    names = list(dict.fromkeys(score.name for score in scores))
    heads = list(dict.fromkeys((score.site, score.head) for score in scores))
    known = {(score.site, score.head, score.name): score for score in scores}
    lines = [
        (f"{site}, head {head + 1}", [_score(known.get((site, head, name))) for name in names]) for site, head in heads
    ]
    return _table(["head", *names], lines)


def _score(score: HeadScore | None) -> str:
    if score is None or math.isnan(score.value):
        return "-"
    value, baseline = tables.written(score)
    return f"{value}<small>{baseline}</small>"


def _ablations(ablated: Sequence[Ablated]) -> str:
    lines = [(each.what, [f"{each.zero:.3f}", "" if each.mean is None else f"{each.mean:.3f}"]) for each in ablated]
    return _table(["without", "set to zero", "set to its mean"], lines)


def _table(heads: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Returns a table; cells are HTML, heads and first cells are not."""
    top = "".join(f'<th scope="col">{text(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in lines
    )
    return f'<table class="figures"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _embedded(value: Any) -> str:
    """Returns JSON that its content cannot end early: every "<" and line separator is escaped."""
    written = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
