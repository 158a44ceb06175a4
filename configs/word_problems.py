"""Which layer composes permutations? One layer, trained on products of 32 elements and tested on up to 128.

Published: one layer of the delta rule with negative eigenvalues learns S5 limited to swaps, at all lengths; without
them, not even five layers do (Grazzi et al. 2025, arXiv:2411.12537, figure 4). S3 takes two steps per token:
the product of two reflections is a rotation (Siems et al. 2025, arXiv:2502.10297).

    python -m experiments.run --config=configs/word_problems.py
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from configs import base

TASKS = ("group_word:group=S3", "group_word:group=S5,most_moved=2")
RULES = ("delta", "delta:max_strength=2", "delta_product:max_strength=1", "delta_product")


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: attention, four delta rules and an LSTM on two word problems."""
    config = base.get_config()
    config.name = "word_problems"
    config.model.model_dim = 64
    config.model.num_heads = 4
    config.model.num_layers = 1
    config.model.mlp_dim = 128
    config.train.batch_size = 128
    config.train.steps = 3000
    config.train.eval_every = 250
    config.train.stop_when_solved = True
    config.train.solved_at = 0.9999
    config.eval.test_lengths = "64,128"
    config.study.vary = (
        f"task={'|'.join(TASKS)}",
        "train.learning_rate=0.001|0.003",
    )
    config.study.select = ("train.learning_rate",)
    return config


def sweep(add: Callable[[dict[str, Any]], None]) -> None:
    """Adds the models; delta rules get the short convolution that their papers put before them."""
    add({"model.attention": "full", "model.position": "rope"})
    add({"model.attention": "lstm"})
    for rule in RULES:
        add({"model.attention": rule, "model.qkv_conv": 4})
