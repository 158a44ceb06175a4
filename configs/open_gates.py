"""Does `forgetting` fail because its gates begin half closed? Beside it, the same layer with gates that begin at 0.98.

Published gates begin at a half, so the weight of a key about halves with every token after it, until training opens
them. Two tasks and both sizes of configs/frontier.py, by the protocol:

    python -m experiments.run --config=configs/open_gates.py
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from configs import frontier


def get_config() -> ml_collections.ConfigDict:
    """Returns the study of recall and copying; `sweep` adds its models."""
    config = frontier.get_config()
    config.name = "open_gates"
    _, *others = config.study.vary
    config.study.vary = (f"task={'|'.join(frontier.TASKS[:2])}", *others)
    config.model.position = "rope"
    config.model.short_conv = 4
    return config


def sweep(add: Callable[[dict[str, Any]], None]) -> None:
    """Adds both starts at both sizes."""
    for size in frontier.SIZES:
        for attention in ("forgetting", "forgetting:initial_gate=0.98"):
            add({"model.attention": attention, "model.model_dim": size, "model.mlp_dim": 2 * size})
