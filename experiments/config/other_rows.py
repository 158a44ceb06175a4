"""Rows other than those of training, on which a run is also tested: longer ones, or those of a shifted task."""

import dataclasses
from typing import Any, Self

from attention_variants import specs
from experiments.config.sections import EvalConfig, ModelConfig
from experiments.tasks.base import Context, Task
from experiments.tasks.registry import TASKS, make_task

LENGTH, SHIFTED = "length", "shifted"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherRows:
    """One test set besides that of the run's own task."""

    kind: str  # LENGTH or SHIFTED
    value: str  # "128", a range "41-80", or the spec of the shifted task
    label: str  # what tables call it
    length: float | None  # the length, or the middle of the range; None where shifted
    task: Task

    @classmethod
    def at_length(cls, task: Task, shortest: int, longest: int) -> Self:
        """Returns the rows of `task` at a length, or at every length of a range; raises ValueError."""
        value = str(longest) if shortest == longest else f"{shortest}-{longest}"
        try:
            at = task.at_length(longest) if shortest == longest else task.at_lengths(shortest, longest)
        except ValueError as error:
            raise ValueError(f"`eval.test_lengths`: {value}: {error}") from error
        return cls(kind=LENGTH, value=value, label=f"at {value}", length=(shortest + longest) / 2, task=at)

    @classmethod
    def of_shifted(cls, task: Task, shifted: Task) -> Self:
        """Returns the rows of `shifted`, called by the fields in which it differs from `task`."""
        spec = specs.spec_of(shifted, TASKS)
        label = spec
        if type(shifted) is type(task):
            own, other = dataclasses.asdict(task), dataclasses.asdict(shifted)
            label = ", ".join(f"{name}={value}" for name, value in other.items() if value != own[name]) or "as trained"
        return cls(kind=SHIFTED, value=spec, label=label, length=None, task=shifted)

    def check(self, own: Task, *, causal: bool, model: ModelConfig) -> None:
        """Raises unless a model trained on the task `own` can be tested on these rows."""
        field = {LENGTH: "eval.test_lengths", SHIFTED: "eval.shifted"}[self.kind]
        if self.kind == LENGTH and not causal:
            raise NotImplementedError(
                "`eval.test_lengths` pads rows at the end, which only a causal model cannot see; this model reads in "
                "both directions."
            )
        expected, got = (_demands(task, causal=causal, model=model) for task in (own, self.task))
        for what in expected:
            if got.get(what) != expected[what]:
                raise ValueError(
                    f"`{field}`: {self.value} must have the task's {what}, {expected[what]}; got {got.get(what)}."
                )
        longest, length = ((task.context or Context(0)).length for task in (own, self.task))
        if length > longest:
            raise NotImplementedError(
                f"`{field}`: {self.value} must have no longer context than the task, {longest}; got {length}."
            )


def other_rows(config: EvalConfig, task: Task) -> tuple[OtherRows, ...]:
    """Returns the further lengths, ascending, then the shifted tasks, in the order given.

    Raises:
      ValueError: an invalid length, spec or combination; one line.
    """
    lengths = [OtherRows.at_length(task, *ends) for ends in _ranges(config.test_lengths)]
    return (*lengths, *_shifted(config.shifted, task))


def _ranges(text: str) -> list[tuple[int, int]]:
    """Returns the lengths of `eval.test_lengths`, ascending, each as the shortest and the longest of a range."""
    found = set()
    for word in (word.strip() for word in text.split(",") if text.strip()):
        shortest, dash, longest = word.partition("-")
        ends = (shortest, longest if dash else shortest)
        if not all(end.isdecimal() for end in ends) or not 0 < int(ends[0]) <= int(ends[1]):
            raise ValueError(
                f"`eval.test_lengths` must be lengths such as '128,256' or ranges such as '41-80'; got {text!r}."
            )
        found.add((int(ends[0]), int(ends[1])))
    return sorted(found)


def _shifted(text: str, task: Task) -> list[OtherRows]:
    found: dict[str, OtherRows] = {}
    for spec in text.split("|") if text.strip() else ():
        try:
            rows = OtherRows.of_shifted(task, make_task(spec))
        except specs.SpecError as error:
            raise ValueError(f"`eval.shifted`: {error}") from error
        if rows.value in found:
            raise ValueError(f"`eval.shifted` gives the task {rows.value} twice: {text!r}.")
        found[rows.value] = rows
    return list(found.values())


def _demands(task: Task, *, causal: bool, model: ModelConfig) -> dict[str, Any]:
    """Returns what must be equal in all tasks of one model."""
    demands = {
        "vocab_size": task.vocab_size,
        "input_channels": task.input_channels,
        "tolerance": task.tolerance,
        "kind of targets": task.loss_name,
        "causality": task.causal,
        "one_vector": task.one_vector,
        "kind of context": _kind(task.context),
    }
    if not causal:  # it would see padding
        demands["input_length"] = task.input_length
    if model.bidirectional:
        demands["answers_follow"] = task.answers_follow
    if task.one_vector or model.readout == "mean":
        demands["number of answers"] = task.num_scored()
    return demands


def _kind(context: Context | None) -> str:
    if context is None:
        return "none"
    return f"{context.channels} channels" if context.channels else f"tokens below {context.vocab_size}"
