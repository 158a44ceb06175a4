"""Do written steps replace depth? Chains of assignments, followed at once or one name at a time.

With a scratchpad, each step reads a single assignment, which one layer of recall can do. Without one, the model has to
compose as many assignments as there are hops. The study follows configs/protocol.py. About 20 minutes on two cores:

    python -m experiments.run --config=configs/scratchpad.py
"""

import ml_collections

from configs import base, protocol

TASK = "variable_tracking:length=32,vocab_size=48,hops=2,num_chains=3,vary_hops=true"


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: with and without a scratchpad, one layer of attention and two."""
    config = base.get_config()
    config.name = "scratchpad"
    config.model.position = "rope"
    config.train.batch_size = 256  # without a scratchpad a row has a single answer to learn from
    config.train.steps = 1000
    config.study.vary = (
        f"task={TASK}|{TASK},scratchpad=true",
        "model.attention=conv+full|conv+full+full|conv+gated_delta+gated_delta",
    )
    return protocol.follow(config)
