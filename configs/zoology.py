"""Does attention alone solve recall at every length? The attention column of Zoology's figure 2.

Two layers of one head, no MLP or convolution, learned positions, tied embeddings, a vocabulary of 8192. Published:
1.00 at (length, pairs) = (64, 4), (128, 8), (256, 16) and (512, 64) (Arora et al. 2023, arXiv:2312.04927). A batch has
1024 questions, at length 512 twice as many. The learning rate is chosen on a separate seed. Hours on two cores:

    python -m experiments.run --config=configs/zoology.py
"""

from collections.abc import Callable
from typing import Any

import ml_collections

from configs import base, protocol

SIZES = {(64, 4): 256, (128, 8): 128, (256, 16): 64, (512, 64): 32}  # (length, pairs): rows of a batch


def get_config() -> ml_collections.ConfigDict:
    """Returns the study; `sweep` adds the lengths."""
    config = base.get_config()
    config.name = "zoology"
    config.model.attention = "full"
    config.model.num_layers = 2
    config.model.num_heads = 1
    config.model.position = "learned"
    config.model.tied_embeddings = True
    config.train.steps = 2000
    config.eval.batch_size = 64
    config.eval.validation_rows = 256
    config.eval.test_rows = 1024
    return protocol.follow(config, rates=(0.001, 0.002, 0.005, 0.01))


def sweep(add: Callable[[dict[str, Any]], None]) -> None:
    """Adds the lengths, longer ones in smaller batches."""
    for (length, pairs), rows in SIZES.items():
        task = f"mqar:length={length},num_pairs={pairs},vocab_size=8192"
        add({"task": task, "train.batch_size": rows})
