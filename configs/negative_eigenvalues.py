"""What negative eigenvalues are for: parity, trained on 3 to 40 symbols and tested on up to 256.

A delta rule that replaces at most what a key held (`max_strength=1`) has transitions without negative eigenvalues, and
no sum of decaying terms tells odd from even at every length. With `max_strength=2` a step may reflect, which is what
parity needs (Grazzi et al. 2025, arXiv:2411.12537). Each row takes the learning rate that is best on its validation
rows. An hour or two on two cores; an interrupted study continues:

    python -m experiments.run --config=configs/negative_eigenvalues.py
"""

import ml_collections

from configs import state_tracking

RULES = ("delta", "gated_delta", "kimi_delta")


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: three delta rules, each with and without negative eigenvalues."""
    mixers = [f"{rule}{fields}" for rule in RULES for fields in ("", ":max_strength=2")]
    config = state_tracking.study("negative_eigenvalues", ["parity:min_length=3"], mixers, "41-80,81-160,161-256")
    config.study.vary = (*config.study.vary, "train.learning_rate=0.001|0.003|0.01")
    config.study.select = ("train.learning_rate",)
    config.study.seeds = 3
    return config
