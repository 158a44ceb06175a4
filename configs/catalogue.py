"""The whole catalogue on two tasks: recall at the size of the quickstart, and selective copying.

Every variant trains in the same small model: one layer of it after a gated short convolution, with learned positions,
and with windows, blocks and states well below the length. Copying needs the positions because its j-th blank asks for
the j-th token. The study follows configs/protocol.py, with three seeds. `configs/catalogue_paper.py` adds the layers as
their papers have them, and `configs/catalogue_encoder.py` the variants that cannot be causal. Many hours on two cores;
an interrupted study continues:

    python -m experiments.run --config=configs/catalogue.py
"""

from collections.abc import Iterable

import ml_collections

from attention_variants.registry import VARIANTS, example_spec
from configs import base, protocol

LENGTH = 128
TASKS = (
    f"mqar:length={LENGTH},num_pairs=8,vocab_size=160",
    f"selective_copying:length={LENGTH},num_tokens=8,vocab_size=16",
)
# Every causal variant, its windows, blocks and states well below the length of the tasks.
CAUSAL = tuple(example_spec(name, LENGTH) for name, kind in VARIANTS.items() if kind.supports_causal)
RECURRENT = ("lstm", "gru")  # the question that attention came to answer


def study(mixers: Iterable[str]) -> ml_collections.ConfigDict:
    """Returns the study of some mixers, each behind a gated short convolution."""
    config = base.get_config()
    config.name = "catalogue"
    config.model.position = "learned"
    config.train.steps = 1000
    config.study.vary = (
        f"task={'|'.join(TASKS)}",
        f"model.attention={'|'.join(f'conv+{spec}' for spec in mixers)}",
    )
    return protocol.follow(config, seeds=3)


def get_config() -> ml_collections.ConfigDict:
    """Returns the study of every causal variant and the recurrent baselines."""
    return study((*CAUSAL, *RECURRENT))
