"""How the pictures of a report look: colours and markers of the models, fonts, and reproducible files."""

import contextlib
import io
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's palette without yellow, which people with any colour vision can distinguish. If there are more
# models than colours, the colours are reused with other markers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_LOOKS = len(COLOURS) * len(MARKERS)  # with more models, a picture shows the best
INK, FAINT = "#22272e", "#8a929c"
HIDDEN = "#dfe3e8"  # what an attention pattern cannot reach
DASHES = (0, (4, 3))  # of floors
CEILING_TITLE = "dotted: ceilings"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": "#b8bec6",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.grid": True,
    "grid.color": "#e8ebef",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a "$" in a label is a dollar
    "svg.hashsalt": "attention-variants",  # the same file for the same numbers
}

_NOT_STYLE = ("backend", "backend_fallback")  # settings that choose a window


class Look(NamedTuple):
    """What distinguishes a model from the others."""

    colour: str
    marker: str


class Mark(NamedTuple):
    """What represents a row in a panel, and its model."""

    point: tuple[float, float]
    model: str
    look: Look
    strong: bool = False  # whether its name is bold


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draws the figures made within it in the style of the reports."""
    settings = {key: value for key, value in matplotlib.rcParamsDefault.items() if key not in _NOT_STYLE}
    with matplotlib.rc_context(settings | _STYLE):
        yield


def blank(width: float, height: float) -> Figure:
    """Returns an empty figure of this size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, kind: str) -> bytes:
    """Returns the figure as the bytes of an "svg" or "png" file, without a date in it."""
    out = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(out, format=kind, dpi=160, facecolor="white", bbox_inches="tight", metadata=metadata)
    return out.getvalue()


def looks_of(models: Iterable[str]) -> dict[str, Look]:
    """Returns a look for each name, which does not depend on the order of the names; `MOST_LOOKS` of them differ."""
    places = {model: place for place, model in enumerate(sorted(models))}
    return {model: Look(COLOURS[n % 7], MARKERS[(n + n // 7) % 7]) for model, n in places.items()}
