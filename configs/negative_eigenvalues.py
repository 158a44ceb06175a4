"""What negative eigenvalues are for: parity, trained on 3 to 40 symbols and tested on up to 256.

A delta rule that replaces at most what a key held (`max_strength=1`) has transitions without negative eigenvalues, and
no sum of decaying terms tells odd from even over any length. With `max_strength=2` a step may reflect, which is what
parity needs (Grazzi et al. 2025, arXiv:2411.12537). Each row takes the learning rate that is best on its validation
rows. An hour or two on two cores; an interrupted study continues:

    python -m experiments.run --config=configs/negative_eigenvalues.py
"""

import ml_collections

from configs import base

RULES = ("delta", "gated_delta", "kimi_delta")


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: three delta rules, each with and without negative eigenvalues."""
    config = base.get_config()
    config.name = "negative_eigenvalues"
    config.model.mlp_dim = 128
    config.model.num_layers = 2
    config.train.steps = 1000
    config.train.stop_when_solved = False  # longer strings are still learned when those of training are solved
    config.eval.test_lengths = "41-80,81-160,161-256"
    config.eval.test_rows = 1024
    config.study.seeds = 3
    config.study.vary = (
        "task=parity:min_length=3",
        f"model.attention={'|'.join(f'{rule}|{rule}:max_strength=2' for rule in RULES)}",
        "train.learning_rate=0.001|0.003|0.01",
    )
    config.study.select = ("train.learning_rate",)
    return config
