"""What a head looks at, in numbers: each score with the value that a head without preference would have.

Scores are means of the shares of weight (`Map.shares`) that a query gives to some keys, over the queries that have such
keys. For softmax, a share is the weight. Where weights are signed or do not sum to 1, a share measures how much a
token moves the output at equal values, but not in which direction. The baseline of a score gives every key that the
pattern permits the same share.

References:
  Elhage et al. 2021, "A mathematical framework for Transformer circuits" (previous-token and induction heads); Olsson
  et al. 2022, "In-context learning and induction heads", arXiv:2209.11895 (the prefix-matching score); Xiao et al.
  2023, "Efficient streaming language models with attention sinks", arXiv:2309.17453 (the first token). Olsson et al.
  average over repeated random sequences; here the rows are those of the task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.inspection.maps import Map, evidence_keys
from experiments.model.hooks import Site
from experiments.tasks.base import Batch

Keys = Bool[np.ndarray, "batch query_length key_length"]


class HeadScore(NamedTuple):
    """One score of one head."""

    site: Site
    head: int
    name: str
    value: float  # NaN where no query of the rows has such keys
    baseline: float


def head_scores(look: Sequence[Map], rows: Batch) -> list[HeadScore]:
    """Returns every head's scores; cross-attention and encoders have only those that compare no tokens of the row."""
    return [score for each in look for score in _scores(each, rows)]


def _scores(found: Map, rows: Batch) -> list[HeadScore]:
    shares, uniform = found.shares, _uniform(found.pattern)
    counted = shares.sum(-1) > 0
    scores = [
        HeadScore(found.site, head, name, _mean(shares[:, head], keys, counted[:, head]), _mean(uniform, keys, None))
        for name, keys in _kinds_of_keys(found, rows).items()
        for head in range(shares.shape[1])
    ]
    for name, measure in SPREADS.items():
        baseline = float(measure(uniform).mean())
        for head in range(shares.shape[1]):
            values = measure(shares[:, head])[counted[:, head]]
            scores.append(HeadScore(found.site, head, name, float(values.mean()) if values.size else np.nan, baseline))
    return scores


def _kinds_of_keys(found: Map, rows: Batch) -> dict[str, Keys]:
    """Returns, for each score, which keys of a query count."""
    queries, keys = found.pattern.shape
    batch = len(found.weights)
    kinds: dict[str, Keys] = {}
    if found.site.part == "mixer":
        t, s = np.arange(queries)[:, None], np.arange(keys)[None, :]
        kinds["previous token"] = np.broadcast_to(s == t - 1, (batch, queries, keys))
        kinds["before evidence"] = (s == t - 1) & _ends_of_evidence(rows, queries)[:, :, None]
        kinds["first token"] = np.broadcast_to((s == 0) & (t > 0), (batch, queries, keys))
        inputs = np.asarray(rows.inputs)
        if inputs.ndim == 2:  # tokens
            same = (inputs[:, :, None] == inputs[:, None, :]) & (s < t)
            kinds["same token"] = same
            kinds["induction"] = np.pad(same, ((0, 0), (0, 0), (1, 0)))[:, :, :keys] & (s < t)
    if found.site.part in ("mixer", "cross"):
        first = np.asarray(rows.inputs).shape[1] if found.site.part == "cross" else 0  # of the context in `evidence`
        kinds["evidence"] = evidence_keys(rows, (queries, keys), first)
    return kinds


def _ends_of_evidence(rows: Batch, queries: int) -> Bool[np.ndarray, "batch query_length"]:
    """Returns the positions of the last tokens that hold the evidence of an answer; those of a context lie beyond."""
    weights, ends = np.asarray(rows.weights), np.asarray(rows.evidence).max(-1)
    marked = np.zeros((len(ends), queries), bool)
    for row, target in np.argwhere((weights > 0) & (ends < queries)):
        marked[row, ends[row, target]] = True
    return marked


def _mean(
    shares: Float[np.ndarray, "*batch query_length key_length"],
    keys: Keys,
    counted: Bool[np.ndarray, "batch query_length"] | None,
) -> float:
    """Returns the mean share on `keys` over the queries that have such keys and nonzero weights."""
    has = keys.any(-1) if counted is None else keys.any(-1) & counted
    on_keys = np.where(keys, shares, 0.0).sum(-1)
    return float(on_keys[has].mean()) if has.any() else float("nan")


def _uniform(pattern: Bool[np.ndarray, "query_length key_length"]) -> Float[np.ndarray, "1 query_length key_length"]:
    seen = pattern.sum(-1, keepdims=True)
    return (pattern / np.maximum(seen, 1))[None]


def _entropy(shares: Float[np.ndarray, "... key_length"]) -> Float[np.ndarray, "..."]:
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(-1)


def _effective_keys(shares: Float[np.ndarray, "... key_length"]) -> Float[np.ndarray, "..."]:
    return np.exp(_entropy(shares))


def _distance(shares: Float[np.ndarray, "... query_length key_length"]) -> Float[np.ndarray, "... query_length"]:
    queries, keys = shares.shape[-2:]
    apart: Int[np.ndarray, "query_length key_length"] = np.abs(np.arange(queries)[:, None] - np.arange(keys)[None, :])
    return (shares * apart).sum(-1)


SPREADS = {"entropy": _entropy, "effective keys": _effective_keys, "distance": _distance}
