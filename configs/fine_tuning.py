"""What does fine-tuning move: what attention looks at, or what the model knows?

A model learns 512 facts by heart, asked for in one format, and is then fine-tuned on half of them in another format, in
which another key of the question is asked for (`facts`). Before and after, it is tested on both formats: on the facts of
fine-tuning, on those that only pretraining had, and on facts that neither had, which must stay at the floor. The two
stages are two rows of the table, and the columns of the picture `accuracy_shifted`. About 15 minutes on two cores; the
second command prints how far the attention of each layer moved:

    python -m experiments.run --config=configs/fine_tuning.py
    python -m experiments.inspect results/fine_tuning --moved

It shows where answers and attention go when a format changes. It does not show that no other weight moves, nor what
facts would do that take several tokens.
"""

import ml_collections

from configs import base

FACTS = "facts:num_used=256,num_carried=256,num_never=64"


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: full attention, a window, and a linear state."""
    config = base.get_config()
    config.name = "fine_tuning"
    config.pretrain.task = f"{FACTS},format=0,part=trained"
    config.pretrain.steps = 1200
    config.task = f"{FACTS},format=1,part=used"
    config.eval.shifted = "|".join(
        f"{FACTS},format={number},part={part}" for number in (0, 1) for part in ("used", "carried", "never")
    )
    config.model.num_layers = 2
    config.model.mlp_dim = 256
    config.model.position = "rope"
    config.train.steps = 400
    config.train.learning_rate = 0.002
    config.train.eval_every = 50
    config.train.stop_when_solved = False
    config.study.seeds = 3
    config.study.vary = ("model.attention=full|sliding_window:window_size=8|linear:chunk_size=16",)
    return config
