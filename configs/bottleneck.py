"""What does a recurrent state keep as distance grows? This is the question that attention came to answer.

The task is recall of four pairs at three lengths; the table shows the state that each model carries. The study follows
configs/protocol.py. Some 20 minutes on two cores; an interrupted study continues:

    python -m experiments.run --config=configs/bottleneck.py
"""

import ml_collections

from configs import base, protocol

LENGTHS = (16, 64, 256)


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: an LSTM and a GRU against attention, at three lengths."""
    config = base.get_config()
    config.name = "bottleneck"
    config.train.steps = 1000
    config.eval.test_rows = 1024
    tasks = "|".join(f"mqar:length={length},num_pairs=4,vocab_size=320,power=1" for length in LENGTHS)
    config.study.vary = (
        f"task={tasks}",
        "model.attention=lstm|gru|conv+full|conv+linear:chunk_size=64",
    )
    return protocol.follow(config)
