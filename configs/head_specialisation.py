"""How do heads specialise? Which become previous-token and induction heads, by kind of attention, with one or four?

Two layers without a convolution, on `induction` with any token as key and on `mqar`; full attention, a window that is
shorter than most distances, linear attention and the delta rule; one head and four at equal width. Parameters along
training are kept. The study follows configs/protocol.py, with three seeds. Half an hour on two cores:

    python -m experiments.run --config=configs/head_specialisation.py
    python -m experiments.inspect results/head_specialisation --attention=full --where='task=induction*' \
        --where=model.num_heads=4 --training=scores.png
"""

import ml_collections

from configs import base, protocol


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: eight models on two tasks, three seeds each."""
    config = base.get_config()
    config.name = "head_specialisation"
    config.model.num_layers = 2
    config.model.position = "rope"
    config.train.steps = 1000
    config.train.eval_every = 50
    config.train.stop_when_solved = False  # heads go on to change, and all models train for as long
    config.train.keep_checkpoints = "every"
    config.study.vary = (
        "task=induction:length=32,vocab_size=16,any_key=true|mqar:length=64,num_pairs=4,vocab_size=128",
        "model.attention=full|sliding_window:window_size=8|linear:chunk_size=32|delta:chunk_size=32",
        "model.num_heads=1|4",
    )
    return protocol.follow(config, seeds=3)
