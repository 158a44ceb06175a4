"""Many heads or one, at equal width? Width 64 cut into 1, 2, 4 and 8 heads, on two kinds of recall.

A head reads one weighted mean per position. Recall asks for one place, joint recall for a place that two tokens name
together. Parameters and products stay the same, whatever the number of heads; the state of linear attention shrinks as
heads are added. The study follows configs/protocol.py:

    python -m experiments.run --config=configs/many_heads.py
"""

import ml_collections

from configs import base, protocol

TASKS = ("mqar:length=64,num_pairs=8", "joint_recall")


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: full and linear attention with 1 to 8 heads."""
    config = base.get_config()
    config.name = "many_heads"
    config.model.num_layers = 2
    config.model.mlp_dim = 128
    config.model.short_conv = 4
    config.model.position = "rope"
    config.train.steps = 1000
    config.study.vary = (
        f"task={'|'.join(TASKS)}",
        "model.attention=full|linear",
        "model.num_heads=1|2|4|8",
    )
    return protocol.follow(config)
