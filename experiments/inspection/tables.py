"""Tables of what heads look at, and of what a model loses without them."""

import math
from collections.abc import Sequence

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


def ablations_text(model: Model, task: Task, rows: Batch, maps: Sequence[Map]) -> str:
    """Returns the accuracy of the model on rows, whole and without each mixer and each head of attention."""
    whole = causes.score(model, task, rows, NONE).accuracy
    lines = [["without", "accuracy, zero", "accuracy, mean"], ["nothing", f"{whole:.3f}", ""]]
    heads = {each.site: each.weights.shape[1] for each in maps}
    for number in range(len(model.layers)):
        site = Site(number)
        lines.append([str(site), *_accuracies(model, task, rows, site, None)])
        for head in range(heads.get(site, 0)):
            lines.append([f"{site}, head {head + 1}", *_accuracies(model, task, rows, site, head)])
    return _aligned(lines)


def _accuracies(model: Model, task: Task, rows: Batch, site: Site, head: int | None) -> list[str]:
    hooks = [Ablation(site, head, by) for by in (causes.ZERO, causes.MEAN)]
    return [f"{causes.score(model, task, rows, each).accuracy:.3f}" for each in hooks]


def _cell(score: HeadScore) -> str:
    if math.isnan(score.value):
        return "-"
    digits = 2 if score.name in (*_OF_SHARES, "entropy") else 1
    return f"{score.value:.{digits}f} ({score.baseline:.{digits}f})"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = widths
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]).rstrip() for line in lines)
