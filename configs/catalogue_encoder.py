"""The variants that cannot be causal, on the tasks and models of configs/catalogue.py, read in both directions.

Neither task reveals its answers to a model that reads ahead. The runs join the same study, in rows of their own:

    python -m experiments.run --config=configs/catalogue_encoder.py
"""

import ml_collections

from attention_variants.registry import VARIANTS, example_spec
from configs import catalogue

# The variants that cannot be causal, and two to compare them with.
_COMPARED = ("full", "linear", *(name for name, kind in VARIANTS.items() if not kind.supports_causal))
BIDIRECTIONAL = tuple(example_spec(name, catalogue.LENGTH) for name in _COMPARED)


def get_config() -> ml_collections.ConfigDict:
    """Returns the study of the low-rank variants, and of two others to compare them with."""
    config = catalogue.study(BIDIRECTIONAL)
    config.model.bidirectional = True
    return config
