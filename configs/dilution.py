"""Does an answer drown among distractors? Six needles among others that no question asks for.

Training rows have 0 to 16 distractors, and the picture `accuracy_by_distractors` of the report is the dilution curve.
Two further tests leave the training distribution: 24 distractors, and keys that training never showed. A window is
limited by how far it sees, a state by how much it keeps. The study follows configs/protocol.py. About a quarter of an
hour on two cores:

    python -m experiments.run --config=configs/dilution.py
"""

import ml_collections

from configs import base, protocol

NEEDLES = "needle:length=128,vocab_size=160,num_keys=6,num_queries=6"


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: full, sparse and linear attention, and two variants with gated states."""
    config = base.get_config()
    config.name = "dilution"
    config.task = f"{NEEDLES},distractors=16,vary_distractors=true,held_out_keys=20"
    config.eval.shifted = (
        f"{NEEDLES},distractors=24,held_out_keys=20|{NEEDLES},distractors=8,held_out_keys=20,unseen_keys=true"
    )
    config.train.steps = 600
    config.eval.test_rows = 4096
    config.study.vary = (
        "model.attention=conv+full|conv+sliding_window:window_size=64|conv+topk:num_keys=4|conv+linear:chunk_size=64"
        "|conv+gated_linear|conv+gated_delta",
    )
    return protocol.follow(config)
