"""The mixers of configs/mad.py whose papers put more around attention, each with its paper's layer.

The runs join the same study, in rows of their own:

    python -m experiments.run --config=configs/mad_paper.py
"""

import ml_collections

from configs import mad

PUBLISHED = ("gated_linear", "delta", "gated_delta")


def get_config() -> ml_collections.ConfigDict:
    """Returns the study of the mixers that have a layer of their own."""
    config = mad.study(PUBLISHED)
    config.model.layer = "paper"
    return config
