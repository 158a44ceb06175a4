"""What does fine-tuning move: what attention looks at, or what the model knows?

A model memorises 512 facts, asked for in one format, and is then fine-tuned on half of them in another, which asks for
a different key of the question (`facts`). Before and after, it is tested in both formats: on the facts that fine-tuning
used, on those that only pretraining had, and on facts that neither had, which must stay at the floor. The two stages
are two rows for each model, and two halves of the picture `accuracy_shifted`. Ten minutes on two cores; the second
command prints how far the attention of each layer moved:

    python -m experiments.run --config=configs/fine_tuning.py
    python -m experiments.inspect results/fine_tuning --moved

The study shows where answers and attention go when a format changes. It does not show that no other weight moves, nor
what becomes of facts of several tokens.
"""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: full attention, a window, and a linear state."""
    config = base.get_config()
    config.name = "fine_tuning"
    config.pretrain.task = "facts:format=0,part=trained"
    config.task = "facts:format=1,part=used"
    config.eval.shifted = "|".join(
        f"facts:format={number},part={part}" for number in (0, 1) for part in ("used", "carried", "never")
    )
    config.model.num_layers = 2
    config.model.mlp_dim = 256
    config.model.position = "rope"
    config.train.steps = 600  # of either stage
    config.train.learning_rate = 0.002
    config.train.eval_every = 50
    config.train.stop_when_solved = False
    config.study.seeds = 3
    config.study.vary = ("model.attention=full|sliding_window:window_size=8|linear:chunk_size=16",)
    return config
