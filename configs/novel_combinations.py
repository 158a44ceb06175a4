"""Do trained skills combine in pairings that training never showed? Maps of symbols, orders of places, and both.

Rows name two of eight skills, and the answer applies one after the other (`skill_pairs`). Training shows every skill
alone and with five others; the tests ask for the remaining pairs, by kind: two maps, two orders, one of each. A model
that has learnt all trained pairs may have learnt the skills, or each pair on its own; the picture `accuracy_shifted` of
the report tells these apart. About ten minutes on two cores:

    python -m experiments.run --config=configs/novel_combinations.py

The study shows what a small model does with 40 pairs, read at once, without intermediate steps. It does not show what
more skills, more depth or written-out steps would do.
"""

import ml_collections

from configs import base

UNSEEN = ("maps", "orders", "mixed")


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: full attention, a window, two kinds of state, and a state with one layer of full attention."""
    config = base.get_config()
    config.name = "novel_combinations"
    config.task = "skill_pairs"
    config.eval.shifted = "|".join(f"skill_pairs:pairs={kind},unseen=true" for kind in UNSEEN)
    config.model.num_layers = 3
    config.model.mlp_dim = 256
    config.model.position = "learned"
    config.model.qkv_conv = 4  # without it the delta rule does not learn the trained pairs
    config.model.conv_silu = True
    config.train.steps = 2000
    config.train.stop_when_solved = False  # new pairings may still be learned when trained ones are solved
    config.study.seeds = 3
    config.study.select = ("train.learning_rate",)
    config.study.vary = (
        "model.attention=full|sliding_window:window_size=8|linear:chunk_size=16|delta:chunk_size=16"
        "|delta:chunk_size=16+full+delta:chunk_size=16",
        "train.learning_rate=0.002|0.005",
    )
    return config
