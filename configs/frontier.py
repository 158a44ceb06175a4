"""What do I lose, and what do I save? Twelve models at two sizes on four tasks, against three costs.

Recall, copying, retrieval and state tracking; accuracy against training FLOPs, time per step and decoding state. Every
model has two layers, each with an MLP, and around its attention what its paper puts there. Where the paper has no
convolution of queries, keys and values, a short one of attention's input stands in, because small models are slow to
learn recall without one. Softmax attention has RoPE; recurrences know the order by themselves. The study follows
configs/protocol.py: the learning rate is chosen on a separate seed, and the scores are those of five others. Twelve
hours or more on two cores, in pieces as small as you like:

    python -m experiments.run --config=configs/frontier.py
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from attention_variants.registry import make_variant
from attention_variants.specs import split_layers
from configs import base, protocol

TASKS = (
    "mqar:length=64,num_pairs=16,vocab_size=128",
    "copying:length=64",
    "needle:length=128,num_keys=4,num_queries=4,distractors=4",
    "group_word:group=S3",
)
SOFTMAX = ("full", "sliding_window:window_size=16", "native_sparse:block_size=8,window_size=16", "forgetting")
STATES = ("linear", "taylor", "gated_linear", "state_space", "delta:max_strength=2", "gated_delta")
HYBRIDS = ("sliding_window:window_size=16+full", "gated_delta+full")
SIZES = (32, 64)


def get_config() -> ml_collections.ConfigDict:
    """Returns the study of four tasks; `sweep` adds its models."""
    config = base.get_config()
    config.name = "frontier"
    config.model.layer = "paper"
    config.model.num_layers = 2
    config.train.steps = 1500
    config.study.vary = (f"task={'|'.join(TASKS)}",)
    return protocol.follow(config)


def sweep(add: Callable[[dict[str, Any]], None]) -> None:
    """Adds the models at both sizes."""
    for size in SIZES:
        for attention in (*SOFTMAX, *HYBRIDS, *STATES):
            convolved = all(make_variant(spec).paper_layer.qkv_conv for spec in split_layers(attention))
            add(
                {
                    "model.attention": attention,
                    "model.position": "none" if attention in STATES else "rope",
                    "model.short_conv": 0 if convolved else 4,
                    "model.model_dim": size,
                    "model.mlp_dim": 2 * size,
                }
            )
