"""Which models track a state? Parity and its relatives, trained on up to 40 symbols and tested on far longer strings.

Published results beyond the lengths of training: a Transformer stays at 50 to 52 % on parity and at 20 to 25 % on
modular arithmetic, and an LSTM reaches 100 % (Delétang et al. 2023, arXiv:2207.02098). A linear recurrence needs
negative eigenvalues for parity, which `max_strength=2` allows, and rotations for larger cycles, which several steps per
token compose (Grazzi et al. 2025, arXiv:2411.12537; Siems et al. 2025, arXiv:2502.10297). The study follows
configs/protocol.py, with three seeds. An hour and a half on two cores; an interrupted study continues:

    python -m experiments.run --config=configs/state_tracking.py
"""

from collections.abc import Sequence

import ml_collections

from configs import base, protocol

TASKS = ("parity", "even_pairs", "cycle_navigation", "modular_arithmetic")
MIXERS = ("full", "linear", "gated_delta", "gated_delta:max_strength=2", "gated_delta_product", "lstm")


def study(name: str, tasks: Sequence[str], mixers: Sequence[str], test_lengths: str) -> ml_collections.ConfigDict:
    """Returns a study of formal languages, whose strings are longer in the tests than in training."""
    config = base.get_config()
    config.name = name
    config.model.mlp_dim = 128
    config.model.num_layers = 2
    config.train.steps = 1000
    config.train.stop_when_solved = False  # longer strings are still being learned when those of training are solved
    config.eval.test_lengths = test_lengths
    config.eval.test_rows = 1024
    config.study.vary = (f"task={'|'.join(tasks)}", f"model.attention={'|'.join(mixers)}")
    return config


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: attention, four kinds of state and an LSTM on four formal languages."""
    return protocol.follow(study("state_tracking", TASKS, MIXERS, "41-80,81-160,161-320,321-500"), seeds=3)
