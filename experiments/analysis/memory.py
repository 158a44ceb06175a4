"""The memory that a run needs whatever the compiler does: a lower bound, counted before anything is compiled."""

from collections.abc import Sequence

import jax.numpy as jnp

from experiments.analysis import compute
from experiments.config.run import Run

_COPIES = 3  # of the parameters: the current ones, the best ones, a gradient
_BYTES = 4  # of a float32


def least_bytes(run: Run, devices: int = 1) -> int:
    """Returns the least bytes that training or evaluation holds at once on each of the devices that share it.

    This counts three copies of the parameters. Training adds the residual stream before every layer, which the backward
    pass reads; evaluation adds one layer's stream. Attention, logits and optimizer moments are not counted.
    """
    parameters = sum(compute.parameters(run))  # not the FLOPs, which need tracing
    stream = run.task.input_length * run.model.model_dim
    trained, evaluated = run.train.batch_size * stream * len(run.layers), run.eval.batch_size * stream
    width = jnp.dtype(run.train.dtype).itemsize
    return _BYTES * _COPIES * parameters + width * (max(trained, evaluated) // devices)


def check(runs: Sequence[Run], there_are: int, devices: int = 1, together: int = 1) -> None:
    """Raises a one-line ValueError if a run needs more than `there_are` bytes of memory on each of its devices.

    Args:
      runs: of a study.
      there_are: available bytes.
      devices: how many share each batch.
      together: how many such runs are trained at once.
    """
    for run in runs:
        needed = together * least_bytes(run, devices)
        if needed > there_are:
            at_once = f" for {together} runs at once" if together > 1 else ""
            raise ValueError(
                f"model.attention={run.model.attention} needs at least {needed / 1e9:.3g} GB of memory{at_once}; "
                f"there are {there_are / 1e9:.3g} GB. Choose a smaller train.batch_size, eval.batch_size, row or model."
            )
