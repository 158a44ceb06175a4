"""The six tasks of mechanistic architecture design, for full attention, a window and four kinds of state.

The tasks are those of Poli et al. 2024 (arXiv:2403.17844), at sizes for two cores. The model is a gated short
convolution and one layer, each with an MLP, and learned positions. The study follows configs/protocol.py, with three
seeds. `configs/mad_paper.py` adds the layers as their papers have them. An hour and a quarter on two cores; an
interrupted study continues:

    python -m experiments.run --config=configs/mad.py
"""

from collections.abc import Iterable

import ml_collections

from configs import base, protocol

TASKS = (
    "in_context_recall:length=128,vocab_size=16",
    "noisy_recall:length=128,vocab_size=32",
    "fuzzy_recall:length=128,vocab_size=16",
    "memorization:length=32,vocab_size=256",
    "compression:length=32,vocab_size=16",
    "selective_copying:length=128,num_tokens=8,vocab_size=16",
)


MIXERS = ("full", "sliding_window:window_size=16", "linear:chunk_size=32", "gated_linear", "delta", "gated_delta")


def study(mixers: Iterable[str]) -> ml_collections.ConfigDict:
    """Returns the study of some mixers, each behind a gated short convolution."""
    config = base.get_config()
    config.name = "mad"
    config.model.position = "learned"
    config.model.mlp_dim = 128
    config.train.steps = 1000
    config.study.vary = (
        f"task={'|'.join(TASKS)}",
        f"model.attention={'|'.join(f'conv+{spec}' for spec in mixers)}",
    )
    return protocol.follow(config, seeds=3)


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: six tasks, six mixers."""
    return study(MIXERS)
