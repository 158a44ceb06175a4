"""The variants that cannot be causal, on the tasks and models of configs/catalogue.py read in both directions.

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
    """Returns the study: the low-rank variants, and two others to compare them with, two seeds each."""
    config = catalogue.get_config()
    config.model.bidirectional = True
    mixers = "|".join(f"conv+{spec}" for spec in BIDIRECTIONAL)
    config.study.vary = (f"task={'|'.join(catalogue.TASKS)}", f"model.attention={mixers}")
    return config
