"""Which models keep one bit, however far back it was written? One layer on flip-flop rows of 512 tokens.

Trained with 80 % of the pairs to be ignored, tested also with 98 % (few writes, far back) and with 10 %. Published
errors in percent for one layer of width 64 with two heads: attention with RoPE 6.9, 40.3 and 0.01; forgetting attention
8.3, 36.3 and 0 (Yang et al. 2025, arXiv:2505.16381, table 1). Recurrent models keep the bit: an LSTM makes no error
(Liu et al. 2023, arXiv:2306.00946), nor does one layer of Mamba (Sarrof et al. 2024, arXiv:2405.17394).

    python -m experiments.run --config=configs/flip_flop.py
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from configs import base

POSITIONS = {"full": "rope", "forgetting": "none", "delta:max_strength=2": "none", "lstm": "none"}


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: two kinds of attention and three kinds of state."""
    config = base.get_config()
    config.name = "flip_flop"
    config.task = "flip_flop:length=512"
    config.model.mlp_dim = 256
    config.train.batch_size = 16
    config.train.steps = 5000
    config.train.eval_every = 250
    config.train.solved_at = 0.9999
    config.eval.batch_size = 64
    config.eval.validation_rows = 256
    config.eval.test_rows = 4096
    config.eval.shifted = "flip_flop:length=512,ignore=0.98|flip_flop:length=512,ignore=0.1"
    config.study.vary = ("train.learning_rate=0.001|0.003",)
    config.study.select = ("train.learning_rate",)
    return config


def sweep(add: Callable[[dict[str, Any]], None]) -> None:
    """Adds the models; attention has its published position encoding."""
    for attention, position in POSITIONS.items():
        add({"model.attention": attention, "model.position": position})
    add({"model.attention": "state_space", "model.short_conv": 4})
