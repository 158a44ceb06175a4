"""The models whose training speed is quoted, two layers on short recall at two sizes: `benchmark --training`.

Width 64 on rows of 64 tokens with a vocabulary of 128, and width 128 on rows of 128 tokens with a vocabulary of 256;
RoPE, a GELU MLP and one head per layer, in batches of 64 rows.
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from configs import base

SIZES = (64, 128)  # width, and tokens of a row
ATTENTION = ("full", "sliding_window:window_size=16", "linear")


def get_config() -> ml_collections.ConfigDict:
    """Returns the smaller size; `sweep` adds both."""
    config = base.get_config()
    config.name = "throughput"
    config.task = "mqar:length=64,num_pairs=4,vocab_size=128"
    config.model.num_layers = 2
    config.model.num_heads = 1
    config.model.mlp_dim = 256
    config.model.position = "rope"
    return config


def sweep(add: Callable[[dict[str, Any]], None]) -> None:
    """Adds each attention at both sizes."""
    for size in SIZES:
        task = f"mqar:length={size},num_pairs=4,vocab_size={2 * size}"
        for attention in ATTENTION:
            model = {"model.attention": attention, "model.model_dim": size, "model.mlp_dim": 4 * size}
            add(model | {"task": task})
