"""What happens beyond the lengths of training? Every position encoding with three kinds of softmax attention.

The models learn to copy strings in rows of 32 tokens and are tested on rows of up to 256. The picture
`accuracy_by_length` of the report has a panel for each encoding. The study follows configs/protocol.py. Half an
hour on two cores:

    python -m experiments.run --config=configs/extrapolation.py
"""

import ml_collections

from configs import base, protocol

POSITIONS = (
    "none",
    "sinusoidal",
    "learned",
    "rope",
    "rope:fraction=0.5",
    "alibi",
    "t5",
    "randomized:max_length=512",
)


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: two layers and an MLP, eight encodings, full attention and two windows."""
    config = base.get_config()
    config.name = "extrapolation"
    config.task = "copying:length=32"
    config.model.num_layers = 2
    config.model.mlp_dim = 128
    config.train.steps = 800
    config.train.stop_when_solved = False  # encodings that learn slowly must not have trained longer than the others
    config.eval.test_lengths = "32,64,128,256"
    config.eval.test_rows = 512
    config.eval.batch_size = 64
    config.study.vary = (
        f"model.position={'|'.join(POSITIONS)}",
        "model.attention=full|sliding_window:window_size=24|sink_window:window_size=20,num_sinks=4",
    )
    return protocol.follow(config)
