"""The bounds of a score: below it the best shortcut, above it what the model can see and what it can carry."""

from experiments.analysis import receptive_field, state_capacity
from experiments.config.run import Run
from experiments.tasks.base import Task


def bounds(run: Run, task: Task) -> dict[str, float]:
    """Returns the bounds of a run's model on a task, its own or one that it is tested on.

    Returns:
      floor, ceiling: of the accuracy; the ceiling also limits a shortcut through what the model cannot see or carry.
      task_bits, state_bits: what the task needs and the model's state holds, where both are known.
    """
    ceiling, bits = receptive_field.ceiling(run, task), {}
    stored, carried = task.stored(), _state_bits(run, task)
    if stored is not None and carried is not None:
        bits = {"task_bits": stored.bits, "state_bits": carried}
        ceiling = min(ceiling, state_capacity.highest_accuracy(stored, carried))
    return {"floor": min(max(task.floors().values()), ceiling), "ceiling": ceiling, **bits}


def _state_bits(run: Run, task: Task) -> int | None:
    """Returns the bits of the fixed state, if the model knows what it has read through that state alone."""
    only_state = run.causal and task.context is None and run.model.readout == "position"
    return state_capacity.state_bits(run, task.input_length) if only_state else None
