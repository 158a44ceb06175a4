"""What can stand between an encoder and a decoder? Translation of strings, and naming what is in an image.

Only the attention from decoder to encoder varies; the attention inside both stays full. The study follows
configs/protocol.py. About 20 minutes on two cores:

    python -m experiments.run --config=configs/cross_attention.py
"""

import ml_collections

from configs import base, protocol


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: six kinds of cross-attention on two tasks."""
    config = base.get_config()
    config.name = "cross_attention"
    config.model.position = "learned"
    config.model.mlp_dim = 128
    config.train.steps = 1000
    config.study.vary = (
        "task=translation:min_length=4,max_length=16|captioning",
        "model.cross_attention=full|sliding_window:window_size=9|topk:num_keys=4|linear|performer|sigmoid",
    )
    return protocol.follow(config)
