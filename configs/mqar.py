"""How far back can recall reach? The same eight pairs over 64 to 512 tokens, five seeds.

More filler between the pairs and their queries means more distance to look back; all else stays the same. Full
attention appears twice, with and without normalised queries and keys. The study follows configs/protocol.py. An hour
or two on two cores; an interrupted study continues:

    python -m experiments.run --config=configs/mqar.py
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from configs import base, protocol

LENGTHS = (64, 128, 256, 512)
MIXERS = (
    "full",
    "sliding_window:window_size=64",
    "bigbird:window_size=32,num_global=8,num_random=1,block_size=32",
    "linear:chunk_size=64",
)


def get_config() -> ml_collections.ConfigDict:
    """Returns the study of four lengths, 180 runs in all; `sweep` adds its models."""
    config = base.get_config()
    config.name = "mqar"
    config.model.num_heads = 1
    config.train.steps = 1000
    config.eval.validation_rows = 256
    config.eval.test_rows = 1024
    tasks = "|".join(f"mqar:length={length},num_pairs=8,vocab_size=640" for length in LENGTHS)
    config.study.vary = (f"task={tasks}",)
    return protocol.follow(config)


def sweep(add: Callable[[dict[str, Any]], None]) -> None:
    """Adds four kinds of attention, and full attention with normalised queries and keys."""
    for mixer in MIXERS:
        add({"model.attention": f"conv+{mixer}", "model.qk_norm": False})
    add({"model.attention": "conv+full", "model.qk_norm": True})
