"""The first comparison: five attention variants and a hybrid on associative recall, in a few minutes on two cores.

Eight key-value pairs stand at the start of 128 tokens; each key comes again later and its value is asked for. One
attention layer sits behind a gated short convolution, which lets a value know its key (the recipe of Arora et al. 2024,
arXiv:2402.18668), so that a variant can score no more than the share of values it sees: its ceiling is tight.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: five models that differ only in attention and a hybrid of three layers, three seeds each."""
    config = base.get_config()
    config.name = "quickstart"
    config.task = "mqar:length=128,num_pairs=8,vocab_size=128"
    config.train.steps = 500
    config.study.seeds = 3
    config.study.vary = (
        "model.attention=conv+full"
        "|conv+sliding_window:window_size=32"
        "|conv+strided_sparse:stride=16"
        "|conv+bigbird:window_size=16,num_global=4,num_random=1,block_size=16"
        "|conv+linear:chunk_size=32"
        "|conv+sliding_window:window_size=32+linear:chunk_size=32",
    )
    return config
