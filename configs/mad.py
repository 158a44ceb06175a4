"""The six tasks of mechanistic architecture design, for full attention, a window and four kinds of state.

The tasks are those of Poli et al. 2024 (arXiv:2403.17844), at sizes for two cores. The model is a gated short
convolution and one layer, each with an MLP, and learned positions. About half an hour on two cores:

    python -m experiments.run --config=configs/mad.py
"""

import ml_collections

from configs import base

TASKS = (
    "in_context_recall:length=128,vocab_size=16",
    "noisy_recall:length=128,vocab_size=32",
    "fuzzy_recall:length=128,vocab_size=16",
    "memorization:length=32,vocab_size=256",
    "compression:length=32,vocab_size=16",
    "selective_copying:length=128,num_tokens=8,vocab_size=16",
)


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: six tasks, six mixers."""
    config = base.get_config()
    config.name = "mad"
    config.model.position = "learned"
    config.model.mlp_dim = 128
    config.train.steps = 600
    config.study.seeds = 2
    config.study.vary = (
        f"task={'|'.join(TASKS)}",
        "model.attention=conv+full|conv+sliding_window:window_size=16|conv+linear:chunk_size=32|conv+gated_linear"
        "|conv+delta|conv+gated_delta",
    )
    return config
