"""The model whose training speed is quoted, two layers of width 64 on short recall: `benchmark --training`."""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns two layers with RoPE and a GELU MLP, batches of 64 rows of 64 tokens, one head per layer."""
    config = base.get_config()
    config.name = "throughput"
    config.task = "mqar:length=64,num_pairs=4,vocab_size=128"
    config.model.num_layers = 2
    config.model.num_heads = 1
    config.model.mlp_dim = 256
    config.model.position = "rope"
    config.study.vary = ("model.attention=full|sliding_window:window_size=16|linear",)
    return config
