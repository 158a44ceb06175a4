"""Which heads make up induction? Two layers of full attention, one head each, and no convolution to help them.

The repeated token differs from row to row, so every token has to know which one precedes it. That takes a
previous-token head in layer 1, and an induction head in layer 2 that looks for it (Olsson et al. 2022,
arXiv:2209.11895). Parameters along training are kept, so the two heads can be seen to form:

    python -m experiments.run --config=configs/induction_heads.py
    python -m experiments.inspect results/induction_heads --training=scores.png
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: one model, three seeds."""
    config = base.get_config()
    config.name = "induction_heads"
    config.task = "induction:length=32,vocab_size=16,any_key=true"
    config.model.attention = "full"
    config.model.num_layers = 2
    config.model.num_heads = 1
    config.model.position = "rope"
    config.train.steps = 600
    config.train.eval_every = 50
    config.train.stop_when_solved = False
    config.train.keep_checkpoints = "every"
    config.study.seeds = 3
    return config
