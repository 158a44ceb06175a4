"""The first comparison: five kinds of attention and a hybrid on associative recall, in about ten minutes on two cores.

A row of 128 tokens begins with eight key-value pairs; later each key appears again and the model predicts its value.
A gated short convolution before the attention layer binds each value to its key (the recipe of Arora et al. 2024,
arXiv:2402.18668). Hence no variant can score more than the share of values that it sees, its ceiling.

The study follows configs/protocol.py: each model has the best of four learning rates, chosen on a separate seed, and is
scored on five others.
"""

import ml_collections

from configs import base, protocol


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: six models, five seeds each; the hybrid has one more layer than the others."""
    config = base.get_config()
    config.name = "quickstart"
    config.task = "mqar:length=128,num_pairs=8,vocab_size=160"
    config.train.steps = 500
    config.study.vary = (
        "model.attention=conv+full"
        "|conv+sliding_window:window_size=32"
        "|conv+strided_sparse:stride=16"
        "|conv+bigbird:window_size=16,num_global=4,num_random=1,block_size=16"
        "|conv+linear:chunk_size=32"
        "|conv+sliding_window:window_size=32+linear:chunk_size=32",
    )
    return protocol.follow(config)
