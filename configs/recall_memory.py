"""How much recall does a state buy? The recall-memory figure of Based, as far as two cores go.

A gated short convolution, then one layer of attention; no MLP, no positions. Trained on a mixture of lengths up to 256
and tested on seven sizes up to 1024 tokens; the score is their plain mean. Published: attention about 1.0, a window
of 64 keys 0.514 and of 256 keys 0.797, which is what they can see (Arora et al. 2024, arXiv:2402.18668, figure 2).

    python -m experiments.run --config=configs/recall_memory.py
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from configs import base

TESTS = ((64, 4), (64, 8), (64, 16), (128, 32), (256, 64), (512, 128), (1024, 256))  # length, pairs
_VOCABULARY = "vocab_size=8192,random_fillers=true"


def get_config() -> ml_collections.ConfigDict:
    """Returns the study; `sweep` adds the models."""
    config = base.get_config()
    config.name = "recall_memory"
    config.task = f"mqar:mixture=64x4*5/128x8/256x16/256x32/256x64,{_VOCABULARY}"
    config.model.num_heads = 1
    config.model.tied_embeddings = True
    config.train.batch_size = 64
    config.train.steps = 3000
    config.train.eval_every = 250
    config.eval.batch_size = 32
    config.eval.validation_rows = 256
    config.eval.test_rows = 1024
    tests = (f"mqar:length={length},num_pairs={pairs},{_VOCABULARY}" for length, pairs in TESTS)
    config.eval.shifted = "|".join(tests)
    return config


def sweep(add: Callable[[dict[str, Any]], None]) -> None:
    """Adds attention of width 64, and windows of width 128."""
    add({"model.attention": "conv+full", "model.model_dim": 64})
    for window in (64, 256):
        add({"model.attention": f"conv+sliding_window:window_size={window}", "model.model_dim": 128})
