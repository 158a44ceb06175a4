"""Which models copy strings longer than those of training, and which find a place in a string?

Strings of 4 to 30 letters in training and up to 100 in the test; and what follows two given letters, which are named
after the string or before it. Published: attention with ALiBi whose slope is infinite in some heads copies far beyond
the lengths of training, and recurrent models fail just past them. Given the letters before the string, these match on
the fly; given them after it, they would have to store everything (Jelassi et al. 2024, arXiv:2402.01032).

    python -m experiments.run --config=configs/copy_lengths.py
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from configs import base

COPYING = "copying:length=64,vocab_size=28,min_length=4"
LOOKUPS = ("ngram_lookup:length=64,key=prefix", "ngram_lookup:length=64,key=suffix")


def get_config() -> ml_collections.ConfigDict:
    """Returns the study; `sweep` adds tasks and models."""
    config = base.get_config()
    config.name = "copy_lengths"
    config.model.num_layers = 2
    config.model.mlp_dim = 128
    config.train.steps = 3000
    config.train.eval_every = 250
    config.eval.test_rows = 1024
    config.study.vary = ("train.learning_rate=0.001|0.003",)
    config.study.select = ("train.learning_rate",)
    return config


def sweep(add: Callable[[dict[str, Any]], None]) -> None:
    """Adds attention with three encodings, a state-space model and an LSTM."""
    models: tuple[dict[str, Any], ...] = (
        {"model.attention": "full", "model.position": "alibi"},
        {"model.attention": "full", "model.position": "rope"},
        {"model.attention": "full", "model.position": "none"},
        {"model.attention": "state_space", "model.position": "none", "model.short_conv": 4},
        {"model.attention": "lstm", "model.position": "none"},
    )
    for model in models:
        add({"task": COPYING, "eval.test_lengths": "64,128,204"} | model)
        for lookup in LOOKUPS:
            add({"task": lookup} | model)
