"""Between what a score must lie: the best shortcut below it, and above it what the model can see and can carry."""

from experiments.analysis import receptive_field as reach
from experiments.analysis import state_capacity as information
from experiments.config.schema import Settings
from experiments.tasks.base import Task


def bounds(run: Settings, task: Task) -> dict[str, float]:
    """Returns the bounds of a run's model on a task, its own or one that it is tested on.

    Returns:
      floor, ceiling: of the accuracy; a shortcut through what the model cannot see or carry is worth no more than that.
      task_bits, state_bits: what the task needs and the model's state holds, where both are known.
    """
    ceiling, bits = float(reach.task_ceiling(run.model, task)), {}
    stored, carried = task.stored(), _state_bits(run, task)
    if stored is not None and carried is not None:
        bits = {"task_bits": stored.bits, "state_bits": carried}
        ceiling = min(ceiling, information.highest_accuracy(stored, carried))
    return {"floor": min(max(task.floors().values()), ceiling), "ceiling": ceiling, **bits}


def _state_bits(run: Settings, task: Task) -> int | None:
    """Returns the bits of fixed state through which alone the model sees what is behind it."""
    only_state = run.causal and task.context is None and run.model.readout == "position"
    return information.state_bits(run.model, task.input_length) if only_state else None
