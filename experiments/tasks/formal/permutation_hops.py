"""Permutation hops: the k-th successor of a node on a cycle whose edges are given in random order."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, Task, check_size

_FILLER = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PermutationHops(Task):
    """Permutation hops (Depo): follow edges without writing the steps down.

    With `num_nodes=4, num_queries=2`; the cycle is n9, n5, n12, n7, and "2" asks for the node two steps on::

        n5 n12 n7 n9 n9 n5 n12 n7 2 n9 n12 1 n12 n7
                                    n12      n7      <- targets

    A row is the n edges of one cycle in random order, each a node and its successor, then `num_queries` questions: the
    number of hops k, a node, and the answer, which is predicted at the node. Rows of fewer than `num_nodes` edges are
    padded at the end. Names are distinct and uniform; nodes and hops of questions are uniform and independent. With
    `powers`, hops are powers of two. n has probability proportional to 1 / (n + sqrt(`num_nodes`)) over
    `min_nodes`..`num_nodes`. The published test has only the longest cycles (`eval.test_lengths`, which count nodes)
    and powers (`eval.shifted`).

    The evidence is the successor of every edge on the way. A single unseen edge of a cycle follows from the others, so
    no bound is claimed for models that see only a part. Slices: `hops`; `nodes` of the cycle.

    References:
      Allen-Zhu 2025, "Physics of language models: Part 4.1", SSRN 5240330, task Depo. There names have 1 or 2 tokens
      out of 50 (Depo1: 225 to 375 nodes, 8 hops) or 5 to 7 out of 4 (Depo2: 75 to 125 nodes, 16 hops); here one token.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "permutation hops: name the k-th successor of a node on a cycle"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"hops": "hops to the answer", "nodes": "nodes of the cycle"}
    every_change_counts: ClassVar[bool] = False  # another edge may lead to the same node

    num_nodes: int = 16  # on the longest cycle
    min_nodes: int = 3
    max_hops: int = 4
    num_queries: int = 10
    num_names: int = 64  # of nodes, from which those of a row are drawn
    powers: bool = False  # hops are 1, 2, 4 .. up to max_hops

    def __post_init__(self) -> None:
        check_size("min_nodes", self.min_nodes, 2)
        check_size("num_nodes", self.num_nodes, self.min_nodes)
        check_size("max_hops", self.max_hops, 1)
        check_size("num_queries", self.num_queries, 1)
        check_size("num_names", self.num_names, self.num_nodes)

    @property
    @override
    def vocab_size(self) -> int:
        """Filler, numbers of hops, names."""
        return 1 + self.max_hops + self.num_names

    @property
    @override
    def input_length(self) -> int:
        """Two tokens for an edge of the longest cycle, three for a question."""
        return 2 * self.num_nodes + 3 * self.num_queries

    @property
    @override
    def train_length(self) -> float:
        return float(self.num_nodes)

    @property
    def hops(self) -> Int[np.ndarray, " kinds"]:
        """The equally likely numbers of hops."""
        every = np.arange(1, self.max_hops + 1)
        return every[(every & (every - 1)) == 0] if self.powers else every

    def nodes(self) -> tuple[Int[np.ndarray, " kinds"], Float[np.ndarray, " kinds"]]:
        """Returns how many nodes a cycle can have, and how likely each number is."""
        count = np.arange(self.min_nodes, self.num_nodes + 1)
        weights = 1 / (count + self.num_nodes**0.5)
        return count, weights / weights.sum()

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        count_rng, name_rng, order_rng, node_rng, hop_rng = jax.random.split(rng, 5)
        rows, shape = jnp.arange(batch_size)[:, None], (batch_size, self.num_queries)
        kinds, shares = self.nodes()
        kind = jax.random.categorical(count_rng, jnp.log(jnp.asarray(shares, jnp.float32)), shape=(batch_size, 1))
        count = jnp.asarray(kinds, jnp.int32)[kind]

        # Nodes stand in the order of the cycle: edge i leads from node i to the next one, and is stated at place[i].
        names = 1 + self.max_hops + sampling.distinct(name_rng, batch_size, self.num_nodes, self.num_names)
        node = jnp.arange(self.num_nodes, dtype=jnp.int32)[None]
        noise = jax.random.uniform(order_rng, names.shape, jnp.float32) + (node >= count)
        place = jnp.argsort(jnp.argsort(noise, axis=1), axis=1).astype(jnp.int32)
        successor = jnp.take_along_axis(names, (node + 1) % count, axis=1)

        asked = jax.random.randint(node_rng, shape, 0, count, jnp.int32)
        hops = jnp.asarray(self.hops, jnp.int32)[jax.random.randint(hop_rng, shape, 0, len(self.hops), jnp.int32)]
        step = jnp.arange(self.max_hops, dtype=jnp.int32)[None, None]
        way = (asked[..., None] + step) % count[..., None]
        there = jnp.take_along_axis(place, way.reshape(batch_size, -1), axis=1).reshape(way.shape)
        evidence = jnp.where((step < hops[..., None]) & (step < count[..., None]), 2 * there + 1, -1)
        answers = jnp.take_along_axis(names, (asked + hops) % count, axis=1)

        start = 2 * count + 3 * jnp.arange(self.num_queries, dtype=jnp.int32)[None]
        inside = jnp.where(node < count, 2 * place, self.input_length)  # other edges are dropped
        inputs = jnp.full((batch_size, self.input_length), _FILLER, jnp.int32)
        parts: list[tuple[Array, Array]] = [(inside, names), (inside + 1, successor), (start, hops)]
        parts += [(start + 1, jnp.take_along_axis(names, asked, axis=1)), (start + 2, answers)]
        for column, tokens in parts:
            inputs = inputs.at[rows, column].set(tokens, mode="drop")
        return Batch(
            inputs=inputs,
            targets=answers,
            positions=start + 1,
            weights=jnp.ones(shape, jnp.float32),
            evidence=evidence,
            slices={
                "distance": start + 1 - evidence.max(axis=2),
                "hops": hops,
                "nodes": jnp.broadcast_to(count, shape),
            },
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Follows a dictionary of the edges, which end at the first number of hops."""
        answers = np.zeros(np.shape(batch.positions), np.int32)
        for row, tokens in enumerate(np.asarray(batch.inputs).tolist()):
            end = next(place for place, token in enumerate(tokens) if token <= self.max_hops)
            following = dict(zip(tokens[:end:2], tokens[1:end:2], strict=True))
            for column, position in enumerate(np.asarray(batch.positions[row]).tolist()):
                node = tokens[position]
                for _ in range(tokens[position - 1]):
                    node = following.get(node, node)
                answers[row, column] = node
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Guessing a node, always the next one, repeating the answer to an equal question, and looking one edge up.

        One edge is enough where the hops, modulo the nodes of the cycle, come to none, one forwards or one backwards;
        elsewhere, these three nodes are excluded.
        """
        count, shares = self.nodes()
        left = self.hops[:, None] % count
        back, once = (np.mean(left == hops, axis=0) for hops in (0, 1))
        guessed = 1 / np.maximum(count - 3, 1)
        looked_up = np.where((left <= 1) | (left == count - 1), 1.0, guessed).mean(axis=0)
        equal = 1 - (1 - 1 / (count * len(self.hops))) ** np.arange(self.num_queries)[:, None]
        return {
            "guess a node": float(shares @ (1 / count)),
            "guess another node than the one asked for": float(shares @ ((1 - back) / (count - 1))),
            "answer with the next node": float(shares @ once),
            "repeat the answer to an equal question before, else the next node": float(
                shares @ (equal + (1 - equal) * once).mean(axis=0)
            ),
            "repeat the answer to an equal question before, else look one edge up, else guess": float(
                shares @ (equal + (1 - equal) * looked_up).mean(axis=0)
            ),
        }

    @override
    def at_length(self, length: int) -> Self:
        """Cycles of that many nodes only."""
        return dataclasses.replace(self, min_nodes=length, num_nodes=length)

    @override
    def at_lengths(self, shortest: int, longest: int) -> Self:
        return dataclasses.replace(self, min_nodes=shortest, num_nodes=longest)

    @override
    def token_text(self, token: int) -> str:
        """Filler ".", numbers of hops, names "n9"."""
        if token <= self.max_hops:
            return str(token) if token else "."
        return f"n{token - self.max_hops - 1}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Edges, then questions of three tokens."""
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        edges = (int(batch.positions[row, 0]) - 1) // 2
        roles = ["key", "value"] * edges + ["marker", "query", "answer"] * self.num_queries
        return list(zip(texts, roles + ["filler"] * (len(texts) - len(roles)), strict=True))
