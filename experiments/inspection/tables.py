"""Tables of what heads look at, and of what a model loses without them."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.inspection import causes
from experiments.inspection.causes import Ablation
from experiments.inspection.head_scores import HeadScore
from experiments.inspection.maps import Map
from experiments.inspection.moved import Moved
from experiments.inspection.over_seeds import Line
from experiments.model.hooks import NONE, Site
from experiments.model.transformer import Model
from experiments.studies.intervals import Estimate, mean_accuracy
from experiments.tasks.base import Batch, Task


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


def over_seeds_text(lines: Sequence[Line]) -> str:
    """Returns a line for each layer and choice of heads: means over runs, in brackets a head without preference."""
    names = list(dict.fromkeys(line.name for line in lines))
    kinds = list(dict.fromkeys((line.site, line.which) for line in lines))
    cells = {(line.site, line.which, line.name): _over_seeds(line) for line in lines}
    return _aligned(
        [
            ["heads", *names],
            *([f"{site}, {which}", *(cells.get((site, which, name), "") for name in names)] for site, which in kinds),
        ]
    )


def moved_text(models: Mapping[str, Sequence[Sequence[Moved]]]) -> str:
    """Returns a line for each layer of each model, given the layers of each of its runs: means over runs."""
    lines: list[list[str]] = []
    for model, runs in models.items():
        by_site: dict[Site, list[tuple[str, str]]] = {}
        for same in zip(*runs, strict=True):
            known = [each.distance for each in same if not math.isnan(each.distance)]
            text = estimate_text(mean_accuracy(known), 3) if known else "-"
            by_site.setdefault(same[0].site, []).append((f"{same[0].rows}: {same[0].queries}", text))
        for site, cells in by_site.items():
            lines.append([f"{model}, {site}" if model else str(site), *(text for _, text in cells)])
            heading = ["attention moved, on rows of", *(name for name, _ in cells)]
    return _aligned([heading, *lines])


def estimate_text(estimate: Estimate, digits: int) -> str:
    """Returns a mean and, where there is more than one run, the ends around it: "0.82 0.79-0.85"."""
    ends = f" {estimate.low:.{digits}f}-{estimate.high:.{digits}f}" if estimate.kind else ""
    return f"{estimate.mean:.{digits}f}{ends}"


class Ablated(NamedTuple):
    """The accuracy of a model without one of its parts."""

    what: str  # "nothing", a mixer or a head
    zero: float  # with the part's output set to zero
    mean: float | None  # with it set to its mean over rows and tokens; None where nothing is missing


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


def ablations_over_seeds_text(runs: Sequence[Sequence[Ablated]]) -> str:
    """Returns a line for each part that the runs of a row have, with means over them."""
    lines = [["without", "accuracy, zero", "accuracy, mean"]]
    for parts in zip(*runs, strict=True):
        zero = estimate_text(mean_accuracy([each.zero for each in parts]), 3)
        means = [each.mean for each in parts if each.mean is not None]
        lines.append([parts[0].what, zero, estimate_text(mean_accuracy(means), 3) if means else ""])
    return _aligned(lines)


def written(score: HeadScore) -> tuple[str, str]:
    """Returns a score and its baseline as text."""
    digits = _digits(score.name)
    return f"{score.value:.{digits}f}", f"{score.baseline:.{digits}f}"


def _digits(name: str) -> int:
    return 1 if name in ("effective keys", "distance") else 2


def _over_seeds(line: Line) -> str:
    if line.estimate is None:
        return "-"
    digits = _digits(line.name)
    return f"{estimate_text(line.estimate, digits)} ({line.baseline:.{digits}f})"


def _cell(score: HeadScore) -> str:
    if math.isnan(score.value):
        return "-"
    value, baseline = written(score)
    return f"{value} ({baseline})"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = widths
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]).rstrip() for line in lines)
