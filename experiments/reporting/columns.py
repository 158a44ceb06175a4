"""The columns of a study's table.

`columns` is the one list that every format renders, CSV included. A new column is one more entry in it.
"""

import string
from collections.abc import Iterator
from typing import Any

from experiments.reporting.column import Column, Interval, number, spread, spread_record
from experiments.reporting.text import human, plural, rate, setting
from experiments.studies.intervals import LEAST
from experiments.studies.results import SizeDifference, Study
from experiments.studies.rows import Choice, Row, ScoreKey, TestScore

_SIZE_MARKS = "†‡§¶"
_EDGES = {-1: "<", 0: "", 1: ">"}  # of what was tried
_OTHER_ROWS = (
    "Accuracy at a length, and shifted: of tests on other rows than those of training, which do not count in the test "
    "accuracy; in brackets their floor and ceiling."
)


def columns(study: Study) -> list[Column]:
    """Returns all columns in order, that of the attention first."""
    return [
        *naming(study),
        *_chosen(study),
        accuracy(study),
        *_runs_and_bounds(),
        *_unseen(study),
        *_losses(study),
        *_other_rows(study),
        *_solving(),
        *_size_and_flops(),
        *_memory_and_time(study),
    ]


def naming(study: Study) -> list[Column]:
    """Returns the columns that tell rows apart, that of the attention first."""
    attention = Column(
        key="model.attention",
        heading=("", "attention"),
        value=lambda row: row.attention,
        text=lambda row: row.attention,
        mark=lambda row: _size_mark(study, row),
    )
    return [attention, *_layer(study), *(_varied(key) for key in study.varied)]


def size_marks(study: Study) -> dict[str, str]:
    """Returns the mark of each size that is not the usual one of the study, and how it differs in words."""
    words = [" and ".join(map(_difference, other)) for other in study.other_sizes]
    return {_sign(_SIZE_MARKS, place): text for place, text in enumerate(words)}


def _size_mark(study: Study, row: Row) -> str:
    other = study.other_size(row)
    return _sign(_SIZE_MARKS, study.other_sizes.index(other)) if other else ""


def _difference(other: SizeDifference) -> str:
    own = plural(other.own, "layer") if other.field == "layers" else f"{other.field} {other.own}"
    return f"{own} instead of {other.usual}"


def _sign(signs: str, place: int) -> str:
    """Returns one of `signs`, or, after the last one, the same ones doubled."""
    return signs[place % len(signs)] * (1 + place // len(signs))


def environment_letters(study: Study) -> list[str]:
    """Returns the letter of each environment of a study; times are marked by them where there are several."""
    return [_sign(string.ascii_lowercase, place) for place in range(len(study.environments))]


def _varied(key: str) -> Column:
    return number(key, ("", key.split(".")[-1]), lambda row: row.varied[key], setting)


def _layer(study: Study) -> list[Column]:
    """Returns the column of what stands around attention, where that is what a paper puts there."""
    key = "model.layer"
    if key in study.varied or all(row.config.get(key, "plain") == "plain" for row in study.rows):
        return []
    return [number(key, ("", "layer"), lambda row: row.config.get(key, "plain"), str)]


def _chosen(study: Study) -> list[Column]:
    """Returns a column for each field that was chosen by validation accuracy."""

    def choice(row: Row, key: str) -> Choice | None:
        return next((choice for choice in row.choices if choice.key == key), None)

    def column(key: str) -> Column:
        name = key.split(".")[-1].replace("_", " ")
        return number(
            key,
            ("chosen", name),
            lambda row: found.value if (found := choice(row, key)) else None,
            lambda value: "-" if value is None else setting(value),
            more=lambda row: _choice_record(key, choice(row, key)),
            mark=lambda row: _EDGES[found.edge] if (found := choice(row, key)) else "",
            note=f"Chosen {name}: by best mean validation accuracy of the row; < or >: the smallest or largest tried, "
            "so that a better one may lie beyond.",
        )

    return [column(key) for key in dict.fromkeys(choice.key for row in study.rows for choice in row.choices)]


def _choice_record(key: str, choice: Choice | None) -> dict[str, Any]:
    """Returns what was chosen among what, for CSV: the whole curve and what sums it up."""
    curve = "; ".join(f"{setting(value)}: {score}" for value, score in choice.curve) if choice else None
    names = ("edge", "best", "median", "window")
    return {f"{key}, curve": curve, **{f"{key}, {name}": getattr(choice, name, None) for name in names}}


def accuracy(study: Study) -> Column:
    """Returns the column of the test accuracy with its interval or range."""
    around = {
        "interval": "a 95 % interval by Student's t of its log-odds",
        "range": f"the range of the seeds where they are fewer than {LEAST}",
    }
    kinds = {row.accuracy.kind for row in study.rows if row.accuracy}
    words = " or ".join(around[kind] for kind in around if kind in kinds)
    return number(
        "accuracy",
        ("", "accuracy"),
        lambda row: row.accuracy.mean if row.accuracy else None,
        rate,
        more=lambda row: (
            spread_record("accuracy", row.accuracy) | {"validation_accuracy": row.mean("validation_accuracy")}
        ),
        detail=lambda row: spread(row.accuracy),
        best=study.best,
        note=f"Accuracy: mean over n seeds on test rows that are drawn once{words and ', with '}{words}.",
    )


def _runs_and_bounds() -> list[Column]:
    return [
        number(
            "n",
            ("", "n"),
            lambda row: len(row.accuracies),
            str,
            more=lambda row: {"runs": row.ended, "diverged": row.diverged},
            detail=lambda row: f"{row.diverged} div." if row.diverged else "",
        ),
        number(
            "floor",
            ("", "floor"),
            lambda row: row.mean("floor"),
            rate,
            note="Floor: the accuracy of the best shortcut known for the task.",
        ),
        number(
            "ceiling",
            ("", "ceiling"),
            lambda row: row.mean("ceiling"),
            rate,
            note="Ceiling: the most that the attention pattern and the state can reach, on average over many rows; no "
            "floor is above it.",
        ),
    ]


def _unseen(study: Study) -> list[Column]:
    """Returns the column of tasks whose rows repeat."""
    if not any(row.values("repeated_rows") for row in study.rows):
        return []
    return [
        number(
            "unseen_accuracy",
            ("accuracy,", "unseen"),
            lambda row: row.mean("unseen_accuracy"),
            rate,
            more=lambda row: {"repeated_rows": row.mean("repeated_rows")},
            detail=lambda row: "" if (share := row.mean("repeated_rows")) is None else f"{share:.1%} rep.",
            note="Accuracy, unseen: on those test rows that training has not shown; rep. is the share that it has.",
        )
    ]


def _losses(study: Study) -> list[Column]:
    """Returns the columns of tasks whose answers are numbers."""
    if all(row.task.tolerance is None for row in study.rows):
        return []
    return [
        number(
            "mean sq. error",
            ("mean sq.", "error"),
            lambda row: None if row.task.tolerance is None else row.tests[0].loss,
            note="Mean squared error: on the test rows. Floor of error: that of the best shortcut. Answers within the "
            "tolerance of the task count as accurate.",
        ),
        number("floor of error", ("floor of", "error"), lambda row: row.task.loss_floor),
    ]


def _other_rows(study: Study) -> Iterator[Column]:
    """Yields a column for each test on other rows: lengths from short to long, then shifted tasks as they are met."""
    found: dict[ScoreKey, list[TestScore]] = {}
    for test in (test for row in study.rows for test in row.other_rows):
        found.setdefault(test.key, []).append(test)
    labels = {key: {test.label for test in tests} for key, tests in found.items()}
    lengths = sorted((k for k in found if k.kind == "length"), key=lambda k: (found[k][0].length or 0.0, k.value))
    for key in [*lengths, *(key for key in found if key.kind != "length")]:
        shared = len(labels[key]) == 1 and list(labels.values()).count(labels[key]) == 1
        yield _other(key, next(iter(labels[key])) if shared else key.value)


def _other(key: ScoreKey, label: str) -> Column:
    first = "accuracy" if key.kind == "length" else f"{key.kind}:"
    name = f"{first} {label}"

    def mean(row: Row) -> float | None:
        test = row.test(key)
        return test.accuracy.mean if test and test.accuracy else None

    def bounds(row: Row) -> dict[str, Any]:
        test = row.test(key)
        return {f"{name}, floor": test and test.floor, f"{name}, ceiling": test and test.ceiling}

    def within(row: Row) -> str:
        test = row.test(key)
        return f"({test.floor:.2f} to {test.ceiling:.2f})" if test and None not in (test.floor, test.ceiling) else ""

    return number(name, (first, label), mean, rate, more=bounds, detail=within, note=_OTHER_ROWS)


def _solving() -> list[Column]:
    def rates(row: Row) -> dict[str, Any]:
        low, high = row.solve_interval
        return {"solve_rate_low": low, "solve_rate_high": high}

    return [
        Column(
            key="solved",
            heading=("", "solved"),
            value=lambda row: row.solved,
            text=lambda row: f"{row.solved}/{row.ended}",
            more=rates,
            detail=lambda row: Interval(*row.solve_interval, 2) if row.ended else "",
            note="Solved: runs that reached the validation target, with a 95 % Wilson interval.",
        ),
        number(
            "steps_to_solve_median",
            ("steps to", "solve"),
            lambda row: row.steps_to_solve,
            more=lambda row: {"steps_mean": row.mean("steps")},
            note="Steps to solve: the median; unsolved and diverged runs count as later than any other.",
        ),
    ]


def _size_and_flops() -> list[Column]:
    return [
        number(
            "params",
            ("", "params"),
            lambda row: row.mean("params"),
            more=lambda row: {"control_params": row.mean("control_params"), **row.size._asdict()},
            detail=lambda row: f"+{human(controls)}" if (controls := row.mean("control_params")) else "",
            note="Params: shared by all variants; after the +, those of the variant's gates or other controls, and of "
            "options around it.",
        ),
        number(
            "train_flops_executed",
            ("train FLOPs", "executed"),
            lambda row: row.mean("train_flops_executed"),
            note="Train FLOPs: forward and backward over the steps that each run took (a run that solves the task "
            "stops), mean over seeds. Executed: what the fast path computes.",
        ),
        number(
            "train_flops_ideal",
            ("", "ideal"),
            lambda row: row.mean("train_flops_ideal"),
            more=lambda row: {"forward_flops_per_token": row.mean("forward_flops_per_token")},
            note="Ideal: only the permitted query-key pairs, or a recurrence token by token.",
        ),
    ]


def _memory_and_time(study: Study) -> list[Column]:
    return [
        number(
            "peak_bytes_median",
            ("peak", "memory"),
            lambda row: row.median("peak_bytes"),
            _bytes,
            note="Peak memory: of one training step.",
        ),
        _timed(study, "step_ms", ("ms per", "step")),
        _timed(study, "tokens_per_second", ("tokens", "per s")),
        number(
            "cache_bytes",
            ("state", "bytes"),
            lambda row: row.mean("cache_bytes"),
            _bytes,
            note="State bytes: the decoding cache of one sequence of the task's length, over all layers.",
        ),
        number(
            "task_bits",
            ("task", "bits"),
            lambda row: row.mean("task_bits"),
            shown=any(row.values("task_bits") for row in study.rows),
            note="Task bits: what a model must carry from the evidence to the answers. A state that does not grow with "
            "the length carries 8 bits per byte, and the ceiling is at most what these allow.",
        ),
    ]


def _timed(study: Study, name: str, heading: tuple[str, str]) -> Column:
    letters = environment_letters(study)

    def mark(row: Row) -> str:
        return f"({','.join(letters[index] for index in sorted(set(row.environments)))})" if len(letters) > 1 else ""

    return number(f"{name}_median", heading, lambda row: row.median(name), mark=mark)


def _bytes(value: float | None) -> str:
    return human(value, "B")
