"""The variants of configs/catalogue.py whose papers put more around attention, each with its paper's layer.

The runs join the same study, in rows of their own:

    python -m experiments.run --config=configs/catalogue_paper.py
"""

import ml_collections

from attention_variants.layer_options import LayerOptions
from attention_variants.registry import make_variant
from configs import catalogue

PUBLISHED = tuple(spec for spec in catalogue.CAUSAL if make_variant(spec).paper_layer != LayerOptions())


def get_config() -> ml_collections.ConfigDict:
    """Returns the study of the causal variants that have a layer of their own."""
    config = catalogue.study(PUBLISHED)
    config.model.layer = "paper"
    return config
