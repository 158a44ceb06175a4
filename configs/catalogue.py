"""The whole catalogue on two tasks: recall at the size of the quickstart, and selective copying.

Every variant trains in the same small model: one layer of it behind a gated short convolution, with learned positions,
at settings whose windows, blocks and states are well below the length. Copying needs the positions: its j-th blank asks
for the j-th token. The table says what trains, and what reach and state leave possible at this size; it ranks nothing.
About an hour on two cores; it continues where it was interrupted.

    python -m experiments.run --config=configs/catalogue.py
"""

import ml_collections

from configs import base

TASKS = ("mqar:length=128,num_pairs=8,vocab_size=128", "selective_copying:length=128,num_tokens=8,vocab_size=16")
CAUSAL = (
    "full",
    "sliding_window:window_size=32",
    "dilated_window:window_size=32,dilation=2",
    "global_window:window_size=32,num_global=8",
    "sink_window:window_size=32,num_sinks=4",
    "block_local:block_size=32",
    "strided_sparse:stride=16",
    "fixed_sparse:block_size=16,num_summary=2",
    "log_sparse:window_size=4",
    "bigbird:window_size=16,num_global=4,num_random=1,block_size=16",
    "topk:num_keys=8",
    "block_topk:block_size=16,num_blocks=3",
    "lsh:bucket_size=8,num_buckets=8,num_hashes=2",
    "native_sparse:block_size=16,num_blocks=2,window_size=16",
    "forgetting",
    "differential",
    "softmax_sink",
    "sigmoid",
    "linear:chunk_size=32",
    "performer",
    "cosformer:horizon=128",
    "taylor",
    "hedgehog",
    "retention",
    "gated_linear",
    "state_space",
    "rwkv6",
    "delta",
    "gated_delta",
    "kimi_delta",
)
RECURRENT = ("lstm", "gru")  # the question that attention came to answer


def get_config() -> ml_collections.ConfigDict:
    """Returns the study: every causal variant, and the recurrent baselines, on both tasks, two seeds each."""
    config = base.get_config()
    config.name = "catalogue"
    config.model.position = "learned"
    config.train.steps = 500
    config.study.seeds = 2
    mixers = "|".join(f"conv+{spec}" for spec in (*CAUSAL, *RECURRENT))
    config.study.vary = (f"task={'|'.join(TASKS)}", f"model.attention={mixers}")
    return config
