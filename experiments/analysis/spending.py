"""What the rows of a study can be made to spend equally, and how far a row is from it."""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.analysis import compute
from experiments.config import sections
from experiments.config.run import Run

TOLERANCE = 0.05  # the share by which a row may miss its target


# Scalars of the model, controls included; bytes that decoding keeps of a row; executed FLOPs of all training steps.
QUANTITIES: Mapping[str, Callable[[Run], int]] = {
    sections.PARAMS: lambda run: sum(compute.parameters(run)),
    sections.STATE: compute.cache_bytes,
    sections.FLOPS: lambda run: run.train.steps * compute.step_flops(run),
}


def matched(run: Run) -> dict[str, Any] | None:
    """Returns how closely a run of a matched study meets its target; None for any other.

    Returns:
      quantity: params, state or flops; target: what the row should spend; spent: what it does; mismatch:
      spent / target - 1; by: what was solved for, such as "model.mlp_dim=60", or a field of a spec; "": nothing.
    """
    quantity, target = run.config.match, run.config.study.match_target
    if quantity == sections.NONE or not target:
        return None
    spent = QUANTITIES[quantity](run)
    by, fields = run.config.study.match_by, run.config.fields()
    by = f"{by}={fields[by]}" if by in fields else by
    return {"quantity": quantity, "target": target, "spent": spent, "mismatch": spent / target - 1, "by": by}
