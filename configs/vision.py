"""Attention between the patches of an image, in both directions: which kind of shape occurs most often?

The model is a patch encoder of two layers with learned positions, read out at a learned token. The study follows
configs/protocol.py. A quarter of an hour on two cores:

    python -m experiments.run --config=configs/vision.py
"""

import ml_collections

from configs import base, protocol


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: full attention, a window in raster order, global tokens, linear and low-rank attention."""
    config = base.get_config()
    config.name = "vision"
    config.task = "image_shapes:grid_size=3"
    config.model.bidirectional = True
    config.model.position = "learned"
    config.model.num_layers = 2
    config.model.mlp_dim = 128
    config.train.steps = 1500
    config.study.vary = (
        "model.attention=full|sliding_window:window_size=15|global_window:window_size=15,num_global=4|linear"
        "|linformer:rank=16,max_length=64|nystrom:num_landmarks=16",
    )
    return protocol.follow(config)
