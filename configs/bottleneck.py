"""What does attention add to a recurrent network, as the source grows? The question that attention came to answer.

A string is read, then written out again. Without attention, all of it has to pass through the state between reading
and writing (Sutskever et al. 2014, arXiv:1409.3215; Cho et al. 2014, arXiv:1409.1259, whose translations get worse with
the length of the sentence). With attention in place of the second layer, every step of writing may look back at every
step of reading (Bahdanau et al. 2015, arXiv:1409.0473). Here one network reads and writes; theirs are two. The study
follows configs/protocol.py. About 25 minutes on two cores; an interrupted study continues:

    python -m experiments.run --config=configs/bottleneck.py
"""

import ml_collections

from configs import base, protocol

LETTERS = (4, 8, 16, 32)


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: two layers of LSTM or GRU, and one with attention after it, at four string lengths."""
    config = base.get_config()
    config.name = "bottleneck"
    config.model.num_layers = 2
    config.train.steps = 4000
    config.train.eval_every = 200
    config.eval.test_rows = 1024
    config.study.vary = (
        f"task={'|'.join(f'copying:length={2 * letters}' for letters in LETTERS)}",
        "model.attention=lstm|lstm+full|gru|gru+full",
    )
    return protocol.follow(config)
