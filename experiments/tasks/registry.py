"""Tasks by name. A new task is one import and one line here."""

from typing import Any

from attention_variants import specs
from experiments.tasks.base import Task
from experiments.tasks.induction import Induction
from experiments.tasks.mqar import MQAR
from experiments.tasks.selective_copying import SelectiveCopying

TASKS: dict[str, type[Task]] = {
    "mqar": MQAR,
    "selective_copying": SelectiveCopying,
    "induction": Induction,
}


def make_task(spec: str, **fields: Any) -> Task:
    """Builds a task from a spec string such as `mqar:length=64,num_pairs=4`; raises SpecError."""
    return specs.build(spec, TASKS, "task", **fields)
