"""The columns of a study's table.

`columns` is the one list that every format renders, CSV included. A new column is one more entry in it.
"""

import dataclasses
import string
from typing import Any

from experiments.reporting.column import Column, Interval, number
from experiments.reporting.score_columns import beside, chosen, score, search_flops
from experiments.reporting.text import human, listed, plural, rate, setting
from experiments.studies.results import SizeDifference, Study
from experiments.studies.rows import Row, ScoreKey
from experiments.studies.scores import ACCURACY

TIMES = ("step_ms_median", "tokens_per_second_median")  # columns whose cells say where they were measured
_SIZE_MARKS = "†‡§¶"
_OTHER_ROWS = (
    "Accuracy at a length, and shifted: of tests on other rows than those of training, which do not count in the test "
    "accuracy; in brackets their floor and ceiling."
)


def columns(study: Study) -> list[Column]:
    """Returns all columns in order, the attention first."""
    first = score(study)
    return [
        *naming(study),
        *chosen(study),
        first,
        *beside(
            first,
            [
                *_runs_and_bounds(study),
                *_unseen(study),
                *_losses(study),
                *_other_rows(study),
                *_solving(),
                *_matched(study),
                *_size_and_flops(),
                *_pretraining(study),
                *search_flops(study),
                *_memory_and_time(study),
            ],
            study.rows[0],
        ),
    ]


def naming(study: Study) -> list[Column]:
    """Returns the columns that distinguish rows, the attention first."""
    attention = Column(
        key="model.attention",
        heading=("", "attention"),
        value=lambda row: row.attention,
        text=lambda row: row.attention,
        mark=lambda row: _size_mark(study, row),
    )
    parts = [attention, *_layer(study), *(_varied(key) for key in study.varied)]
    return [dataclasses.replace(column, names_row=True) for column in parts]


def size_marks(study: Study) -> dict[str, str]:
    """Returns the mark of each size that differs from the usual one of the study, and the difference in words."""
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
    """Returns the letter of each environment of a study; times are marked with them if there are several."""
    return [_sign(string.ascii_lowercase, place) for place in range(len(study.environments))]


def _varied(key: str) -> Column:
    return number(key, ("", key.split(".")[-1]), lambda row: row.varied[key], setting)


def _layer(study: Study) -> list[Column]:
    """Returns the column of what surrounds attention, if that is what a paper puts there."""
    key = "model.layer"
    if key in study.varied or all(row.config.get(key, "plain") == "plain" for row in study.rows):
        return []
    return [number(key, ("", "layer"), lambda row: row.config.get(key, "plain"), str)]


def _runs_and_bounds(study: Study) -> list[Column]:
    other = "" if study.metric is ACCURACY else " Both are those of the score."
    return [
        number(
            "n",
            ("", "n"),
            lambda row: len(row.score.accuracies),
            str,
            more=lambda row: {"runs": row.ended, "diverged": row.diverged},
            detail=lambda row: f"{row.diverged} div." if row.diverged else "",
        ),
        number(
            "floor",
            ("", "floor"),
            lambda row: row.score.floor,
            rate,
            shown=any(row.score.floor is not None for row in study.rows) or study.metric is ACCURACY,
            note="Floor: the accuracy of the best shortcut known for the task.",
        ),
        number(
            "ceiling",
            ("", "ceiling"),
            lambda row: row.score.ceiling,
            rate,
            shown=any(row.score.ceiling is not None for row in study.rows) or study.metric is ACCURACY,
            note="Ceiling: the most that the attention pattern and the state can reach, on average over many rows; no "
            f"floor is above it.{other}",
        ),
    ]


def _unseen(study: Study) -> list[Column]:
    """Returns the column for tasks whose rows repeat."""
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
    """Returns the columns for tasks whose answers are numbers or distributions."""
    tasks = [row.task for row in study.rows if row.task.tolerance is not None]
    if not tasks:
        return []
    close = "Floor of error: that of the best shortcut. Answers within the tolerance of the task count as accurate."
    found = []
    if not all(task.distributions for task in tasks):
        found.append(
            _error("mean sq. error", ("mean sq.", "error"), False, f"Mean squared error: on the test rows. {close}")
        )
    if any(task.distributions for task in tasks):
        what = "KL divergence: of the model's distributions from the right ones on the test rows, in nats."
        found.append(_error("KL divergence", ("KL", "divergence"), True, f"{what} {close}"))
    return [*found, number("floor of error", ("floor of", "error"), lambda row: row.task.loss_floor)]


def _error(name: str, heading: tuple[str, str], distributions: bool, note: str) -> Column:
    """Returns the column of the loss for tasks of one kind."""

    def loss(row: Row) -> float | None:
        return row.tests[0].loss if row.task.tolerance is not None and row.task.distributions == distributions else None

    return number(name, heading, loss, note=note)


def _other_rows(study: Study) -> list[Column]:
    """Returns a column for each test on other rows: lengths from short to long, then shifted tasks as they are met."""
    return [_other(ScoreKey(*key), parts) for key, parts in study.names_of_tests.items()]


def _other(key: ScoreKey, parts: tuple[str, str]) -> Column:
    name = " ".join(parts)

    def mean(row: Row) -> float | None:
        test = row.test(key)
        return test.accuracy.mean if test and test.accuracy else None

    def bounds(row: Row) -> dict[str, Any]:
        test = row.test(key)
        return {f"{name}, floor": test and test.floor, f"{name}, ceiling": test and test.ceiling}

    def within(row: Row) -> str:
        test = row.test(key)
        return f"({test.floor:.2f} to {test.ceiling:.2f})" if test and None not in (test.floor, test.ceiling) else ""

    return number(name, parts, mean, rate, more=bounds, detail=within, note=_OTHER_ROWS)


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


def _matched(study: Study) -> list[Column]:
    """Returns the column for studies whose rows were made to spend the same."""

    def off(row: Row) -> float | None:
        return next((result["match"]["mismatch"] for result in row.results if "match" in result), None)

    quantities = dict.fromkeys(
        result["match"]["quantity"] for row in study.rows for result in row.results if "match" in result
    )
    if not quantities:
        return []
    return [
        number(
            "mismatch",
            (listed(quantities), "off by"),
            off,
            lambda value: "-" if value is None else f"{value:+.1%}",
            note="Off by: what a row spends more or less than the first row of its task, to which it was matched.",
        )
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


def _pretraining(study: Study) -> list[Column]:
    """Returns the column of what pretraining cost, if any row had one."""
    if not any(row.values("pretrain_flops") for row in study.rows):
        return []
    return [
        number(
            "pretrain_flops",
            ("pretrain", "FLOPs"),
            lambda row: row.mean("pretrain_flops"),
            note="Pretrain FLOPs: executed by the run in whose parameters a row begins; its train FLOPs include them.",
        )
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
