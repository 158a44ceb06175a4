"""Tables of what heads look at, and of what a model loses without them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from experiments.inspection import causes
from experiments.inspection.causes import Ablation
from experiments.inspection.head_scores import HeadScore
from experiments.inspection.maps import Map
from experiments.model.hooks import NONE, Site
from experiments.model.transformer import Model
from experiments.tasks.base import Batch, Task

_OF_SHARES = ("previous token", "same token", "induction", "first token", "evidence")


def scores_text(scores: Sequence[HeadScore]) -> str:
    """Returns a line for each head, with each score and, in brackets, that of a head without preference."""
    names = list(dict.fromkeys(score.name for score in scores))
    heads = list(dict.fromkeys((score.site, score.head) for score in scores))
    cells = {(score.site, score.head, score.name): _cell(score) for score in scores}
    lines = [["head", *names]]
    lines += [
        [f"{site}, head {head + 1}", *(cells.get((site, head, name), "") for name in names)] for site, head in heads
    ]
    return _aligned(lines)


class Ablated(NamedTuple):
    """The accuracy of a model without one of its parts."""

    what: str  # "nothing", a mixer or a head
    zero: float  # with the part's output set to zero
    mean: float | None  # to its mean over rows and tokens; None where nothing is missing


def ablate(model: Model, task: Task, rows: Batch, maps: Sequence[Map]) -> list[Ablated]:
    """Measures the accuracy of the model on rows, whole and without each mixer and each head of attention."""
    found = [Ablated("nothing", causes.score(model, task, rows, NONE).accuracy, None)]
    heads = {each.site: each.weights.shape[1] for each in maps}
    for site in map(Site, range(len(model.layers))):
        for head in (None, *range(heads.get(site, 0))):
            zero, mean = (
                causes.score(model, task, rows, Ablation(site, head, by)).accuracy for by in (causes.ZERO, causes.MEAN)
            )
            found.append(Ablated(str(site) if head is None else f"{site}, head {head + 1}", zero, mean))
    return found


def ablations_text(ablated: Sequence[Ablated]) -> str:
    """Returns a line for each part."""
    lines = [[each.what, f"{each.zero:.3f}", "" if each.mean is None else f"{each.mean:.3f}"] for each in ablated]
    return _aligned([["without", "accuracy, zero", "accuracy, mean"], *lines])


def written(score: HeadScore) -> tuple[str, str]:
    """Returns a score and its baseline as they are written."""
    digits = 2 if score.name in (*_OF_SHARES, "entropy") else 1
    return f"{score.value:.{digits}f}", f"{score.baseline:.{digits}f}"


def _cell(score: HeadScore) -> str:
    if math.isnan(score.value):
        return "-"
    value, baseline = written(score)
    return f"{value} ({baseline})"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = widths
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]).rstrip() for line in lines)
