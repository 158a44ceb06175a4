"""Where in the context does a fact get lost? Eight needles, scattered over 256 tokens of filler.

The slice `depth` is the tenth of the context that holds the needle, and the picture `accuracy_by_depth` of the report
is the lost-in-the-middle curve. The study follows configs/protocol.py. About 20 minutes on two cores:

    python -m experiments.run --config=configs/lost_in_the_middle.py
"""

import ml_collections

from configs import base, protocol


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: softmax over all keys, over a window, over sinks and a window, and three kinds of state."""
    config = base.get_config()
    config.name = "lost_in_the_middle"
    config.task = "needle:length=256,num_keys=8,num_queries=8,distractors=0"
    config.train.steps = 600
    config.eval.test_rows = 4096
    config.study.vary = (
        "model.attention=conv+full|conv+sliding_window:window_size=64|conv+sink_window:window_size=64,num_sinks=32"
        "|conv+linear:chunk_size=64|conv+retention|conv+gated_delta",
    )
    return protocol.follow(config)
