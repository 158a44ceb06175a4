"""Every field at its default. `experiments/config` declares them; `--list_config` prints what each means.

A study's own file starts from `get_config()` and changes what it compares.
"""

import ml_collections

from experiments.config.files import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the shared defaults."""
    return default_config()
