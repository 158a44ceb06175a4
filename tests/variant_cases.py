"""The table of small, sharp cases: one row per registered variant or more. The laws run over every row.

A row is sharp where the variant's windows, blocks and chunks end well within the length; its `limit` has the settings
that make it full attention at that length.
"""

from attention_variants.conformance import Case
from attention_variants.registry import make_variant


def _case(spec: str, limit: str | None = None, length: int = 37) -> Case:
    return Case(make_variant(spec), length, make_variant(limit) if limit else None)


CASES: dict[str, Case] = {
    "full": _case("full:block_size=8", limit="full:block_size=8"),
    "sliding_window": _case("sliding_window:window_size=5", limit="sliding_window:window_size=74"),
    "sliding_window:window_size=1": _case("sliding_window:window_size=1"),
    "strided_sparse": _case("strided_sparse:stride=5", limit="strided_sparse:stride=37"),
    "bigbird": _case(
        "bigbird:window_size=7,num_global=2,num_random=1,block_size=5",
        limit="bigbird:window_size=9,num_global=0,num_random=8,block_size=5",
    ),
    "linear": _case("linear:chunk_size=7"),
    "linear:feature_map=relu": _case("linear:feature_map=relu,chunk_size=7"),
}
