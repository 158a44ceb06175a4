"""A protocol that gives each row of a study its chance: `follow` adds it to any config; run alone, it trains one model.

Each row takes the best of four log-spaced learning rates, by validation accuracy on a separate seed; five other seeds
at that rate are reported. The table says which rates lie at the edge of the four, what the search cost, and which rows
were still improving when training ended.

    python -m experiments.run --config=configs/protocol.py --config.model.attention=conv+linear
"""

import ml_collections

from configs import base

RATES = (0.001, 0.003, 0.01, 0.03)
SEEDS = 5


def follow(
    config: ml_collections.ConfigDict, rates: tuple[float, ...] = RATES, seeds: int = SEEDS
) -> ml_collections.ConfigDict:
    """Adds the protocol to the grid that a study has; returns the study."""
    config.study.vary = (*config.study.vary, f"train.learning_rate={'|'.join(map(str, rates))}")
    config.study.select = ("train.learning_rate",)
    config.study.search_seeds = 1
    config.study.seeds = seeds
    return config


def get_config() -> ml_collections.ConfigDict:
    """Returns the study of the default model on the default task."""
    config = follow(base.get_config())
    config.name = "protocol"
    return config
