"""Which attention learns in context? Linear regression and Markov chains whose rule is new in every row.

Least squares is the best possible for the one, counting what follows a symbol (the Bayes posterior) for the other. In
small Transformers, both take two steps: find the relevant positions, then combine them (Garg et al. 2022,
arXiv:2208.01066; Edelman et al. 2024, arXiv:2402.11004). The study follows configs/protocol.py:

    python -m experiments.run --config=configs/in_context.py
"""

import ml_collections

from configs import base, protocol

TASKS = ("in_context_regression:num_pairs=16,dim=4", "markov_icl")
MIXERS = ("full", "sliding_window:window_size=8", "linear", "gated_delta", "gated_delta+full")


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: five models of two layers on both tasks."""
    config = base.get_config()
    config.name = "in_context"
    config.model.num_layers = 2
    config.model.mlp_dim = 128
    config.model.short_conv = 4
    config.model.position = "rope"
    config.train.steps = 2000
    config.study.vary = (f"task={'|'.join(TASKS)}", f"model.attention={'|'.join(MIXERS)}")
    return protocol.follow(config)
