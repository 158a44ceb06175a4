"""The table of sharp cases: one row or more per registered variant. The laws run over every row.

A row is sharp where the variant's windows, blocks and chunks end well within the length. Its `limit` has the settings
that make it full attention at that length. A static pattern also has a picture: what it shows causally at length 8,
drawn by hand from the definition, at settings that fit there.
"""

from attention_variants.conformance.inputs import Case, Picture
from attention_variants.registry import make_variant


def _case(spec: str, *, limit: str | None = None, drawn: str | None = None, picture: str = "") -> Case:
    """Returns a row; `picture` is that of the spec `drawn`."""
    return Case(
        make_variant(spec),
        limit=None if limit is None else make_variant(limit),
        picture=None if drawn is None else Picture(make_variant(drawn), picture),
    )


CASES: dict[str, Case] = {
    "full": _case(
        "full:block_size=8",
        limit="full:block_size=8",
        drawn="full",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            1 1 1 1 . . . .
            1 1 1 1 1 . . .
            1 1 1 1 1 1 . .
            1 1 1 1 1 1 1 .
            1 1 1 1 1 1 1 1
        """,
    ),
    "sliding_window": _case(
        "sliding_window:window_size=5",
        limit="sliding_window:window_size=74",
        drawn="sliding_window:window_size=3",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            . 1 1 1 . . . .
            . . 1 1 1 . . .
            . . . 1 1 1 . .
            . . . . 1 1 1 .
            . . . . . 1 1 1
        """,
    ),
    "sliding_window:window_size=1": _case("sliding_window:window_size=1"),
    "dilated_window": _case(
        "dilated_window:window_size=4,dilation=3",
        limit="dilated_window:window_size=74,dilation=1",
        drawn="dilated_window:window_size=3,dilation=2",
        picture="""
            1 . . . . . . .
            . 1 . . . . . .
            1 . 1 . . . . .
            . 1 . 1 . . . .
            1 . 1 . 1 . . .
            . 1 . 1 . 1 . .
            . . 1 . 1 . 1 .
            . . . 1 . 1 . 1
        """,
    ),
    "sink_window": _case(
        "sink_window:window_size=5,num_sinks=2",
        limit="sink_window:window_size=1,num_sinks=37",
        drawn="sink_window:window_size=3,num_sinks=2",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            1 1 1 1 . . . .
            1 1 1 1 1 . . .
            1 1 . 1 1 1 . .
            1 1 . . 1 1 1 .
            1 1 . . . 1 1 1
        """,
    ),
    "global_window": _case(
        "global_window:window_size=5,num_global=2",
        limit="global_window:window_size=74",
        drawn="global_window:window_size=2,num_global=1",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            1 . 1 1 . . . .
            1 . . 1 1 . . .
            1 . . . 1 1 . .
            1 . . . . 1 1 .
            1 . . . . . 1 1
        """,
    ),
    "block_local": _case(
        "block_local:block_size=7",
        limit="block_local:block_size=37",
        drawn="block_local:block_size=3",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            . . . 1 . . . .
            . . . 1 1 . . .
            . . . 1 1 1 . .
            . . . . . . 1 .
            . . . . . . 1 1
        """,
    ),
    "block_local:num_previous=1": _case("block_local:block_size=5,num_previous=1"),
    "strided_sparse": _case(
        "strided_sparse:stride=5",
        limit="strided_sparse:stride=37",
        drawn="strided_sparse:stride=3",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            1 1 1 1 . . . .
            . 1 1 1 1 . . .
            . . 1 1 1 1 . .
            1 . . 1 1 1 1 .
            . 1 . . 1 1 1 1
        """,
    ),
    "fixed_sparse": _case(
        "fixed_sparse:block_size=13,num_summary=3",
        limit="fixed_sparse:block_size=5,num_summary=5",
        drawn="fixed_sparse:block_size=3,num_summary=1",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            . . 1 1 . . . .
            . . 1 1 1 . . .
            . . 1 1 1 1 . .
            . . 1 . . 1 1 .
            . . 1 . . 1 1 1
        """,
    ),
    "log_sparse": _case(
        "log_sparse",
        limit="log_sparse:window_size=74",
        drawn="log_sparse",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            . 1 1 1 . . . .
            1 . 1 1 1 . . .
            . 1 . 1 1 1 . .
            . . 1 . 1 1 1 .
            . . . 1 . 1 1 1
        """,
    ),
    "log_sparse:window_size=5": _case("log_sparse:window_size=5"),
    "bigbird": _case(
        "bigbird:window_size=7,num_global=2,num_random=1,block_size=5",
        limit="bigbird:window_size=9,num_global=0,num_random=8,block_size=5",
        drawn="bigbird:window_size=2,num_global=1,num_random=0,block_size=2",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            1 . 1 1 . . . .
            1 . . 1 1 . . .
            1 . . . 1 1 . .
            1 . . . . 1 1 .
            1 . . . . . 1 1
        """,
    ),
    "topk": _case("topk:num_keys=5", limit="topk:num_keys=37"),
    "block_topk": _case("block_topk:block_size=5,num_blocks=2", limit="block_topk:block_size=5,num_blocks=8"),
    "lsh": _case("lsh:bucket_size=3,num_buckets=4,num_hashes=2", limit="lsh:bucket_size=74,num_buckets=1"),
    "native_sparse": _case("native_sparse:block_size=5,num_blocks=2,window_size=3"),
    "linformer": _case("linformer:rank=7,max_length=211"),
    "linformer:sharing=none": _case("linformer:rank=7,max_length=211,sharing=none"),
    "linformer:sharing=key_value": _case("linformer:rank=7,max_length=211,sharing=key_value"),
    "nystrom": _case("nystrom:num_landmarks=5"),
    "forgetting": _case("forgetting:block_size=8"),
    "differential": _case("differential:block_size=8"),
    "softmax_sink": _case("softmax_sink:block_size=8"),
    "sigmoid": _case("sigmoid:block_size=8"),
    "linear": _case(
        "linear:chunk_size=7",
        drawn="linear",
        picture="""
            1 . . . . . . .
            1 1 . . . . . .
            1 1 1 . . . . .
            1 1 1 1 . . . .
            1 1 1 1 1 . . .
            1 1 1 1 1 1 . .
            1 1 1 1 1 1 1 .
            1 1 1 1 1 1 1 1
        """,
    ),
    "linear:feature_map=relu": _case("linear:feature_map=relu,chunk_size=7"),
    "performer": _case("performer:num_features=11,chunk_size=7"),
    "cosformer": _case("cosformer:horizon=211,chunk_size=7"),
    "taylor": _case("taylor:feature_dim=3,chunk_size=7"),
    "taylor:feature_dim=0": _case("taylor:feature_dim=0,chunk_size=7"),
    "hedgehog": _case("hedgehog:chunk_size=7"),
    "retention": _case("retention:chunk_size=7"),
    "gated_linear": _case("gated_linear:gate_rank=2,chunk_size=7"),
    "state_space": _case("state_space:chunk_size=7"),
    "rwkv6": _case("rwkv6:decay_rank=2,chunk_size=7"),
    "delta": _case("delta:chunk_size=7"),
    "gated_delta": _case("gated_delta:chunk_size=7"),
    "kimi_delta": _case("kimi_delta:chunk_size=7"),
    "delta_product": _case("delta_product:num_steps=2,chunk_size=7"),
    "gated_delta_product": _case("gated_delta_product:num_steps=3,chunk_size=5"),
}
