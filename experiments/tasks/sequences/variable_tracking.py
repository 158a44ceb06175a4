"""Variable tracking: follow a chain of assignments, scattered over the context, to the value at its beginning."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size

_FILLER, _ASK, _FIRST_NAME = 0, 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariableTracking(FixedLength):
    """Variable tracking.

    With `length=18, hops=2, num_chains=2`; an assignment is a name and what it is set to: n5 to the value v40, n9 to
    the value of n5, n2 to that of n9; "." is filler, id 0, "|" the marker, id 1::

        .  .  n5 v40 n4 v33 .  .  n9 n5 n8 n4 n2 n9 n3 n8 |  n2
                                                             v40   <- target

    With `scratchpad=True` the row goes on: the steps are trained on and scored, each with the earlier ones given::

        ... |  n2 n9 n5
               n9 n5 v40   <- targets

    Each of `num_chains` chains assigns a value to a name, that name to a second one, and so on, `hops` times. The names
    of a row are distinct, and so are its values; all are uniform. Assignments are in two-token slots of the context,
    drawn uniformly without replacement; those of a chain are in order. The question is the value of the last name of
    one chain, or, with `vary_hops`, of a uniformly drawn name of it.

    The evidence is the right-hand side of each assignment on the way, or, with a scratchpad, of the one that the step
    needs. Slices: `hops`, and with a scratchpad `steps_left`, 0 for the value.

    References:
      Hsieh et al. 2024, "RULER", arXiv:2404.06654, section 3. RULER asks the inverse: it gives the value and wants all
      names of the chain.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "variable tracking: follow a chain of assignments to its value"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "hops": "hops to the value",
        "steps_left": "steps left to the value",
    }
    every_change_counts: ClassVar[bool] = False  # changing an assignment may only skip another one of its chain

    length: int = 128  # tokens per row
    vocab_size: int = 64  # filler, marker, names; the upper half are values
    hops: int = 2  # assignments of a name to a name per chain
    num_chains: int = 4  # at least 2, of which one is queried
    scratchpad: bool = False  # spell out the names on the way
    vary_hops: bool = False  # query any name of the chain

    def __post_init__(self) -> None:
        check_size("length", self.length, 4)
        check_size("vocab_size", self.vocab_size, 8)
        check_size("hops", self.hops, 0)
        check_size("num_chains", self.num_chains, 2)
        shortest = 2 * self.num_names + 2 + self.hops * self.scratchpad
        if self.length < shortest:
            raise ValueError(f"`length` must be at least {shortest} for these chains; got {self.length}.")
        if self.first_value < _FIRST_NAME + self.num_names:
            raise ValueError(
                f"`vocab_size` must be at least {2 * (_FIRST_NAME + self.num_names)} for {self.num_names} names; "
                f"got {self.vocab_size}."
            )

    @property
    def context_length(self) -> int:
        """Tokens before the marker."""
        return self.length - 2 - self.hops * self.scratchpad

    @property
    def num_names(self) -> int:
        """Names in a row, one for each assignment."""
        return self.num_chains * (self.hops + 1)

    @property
    def first_value(self) -> int:
        """Names are 2..first_value - 1, values first_value..vocab_size - 1."""
        return self.vocab_size // 2

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        name_rng, value_rng, slot_rng, hop_rng = jax.random.split(rng, 4)
        shape = (batch_size, self.num_chains, self.hops + 1)
        names = sampling.distinct(name_rng, batch_size, self.num_names, self.first_value - _FIRST_NAME)
        names = (_FIRST_NAME + names).reshape(shape)
        values = sampling.distinct(value_rng, batch_size, self.num_chains, self.vocab_size - self.first_value)
        sources = jnp.concatenate([self.first_value + values[:, :, None], names[:, :, :-1]], axis=2)
        slots = sampling.distinct(slot_rng, batch_size, self.num_names, self.context_length // 2)
        place = 2 * jnp.sort(slots.reshape(shape), axis=2)
        pairs = jnp.stack([names, sources], axis=-1).reshape(batch_size, -1)
        both = jnp.stack([place, place + 1], axis=-1).reshape(batch_size, -1)
        rows = jnp.arange(batch_size)[:, None]
        inputs = jnp.full((batch_size, self.length), _FILLER, jnp.int32).at[rows, both].set(pairs)

        # Step i looks up the name that is `left` links away from the value.
        steps = jnp.arange(self.hops + 1 if self.scratchpad else 1, dtype=jnp.int32)[None]
        hops = jnp.full((batch_size, 1), self.hops, jnp.int32)
        if self.vary_hops:
            hops = jax.random.randint(hop_rng, hops.shape, 0, self.hops + 1, jnp.int32)
        left, asked = jnp.maximum(hops - steps, 0), steps <= hops
        links = place[:, 0] + 1
        if self.scratchpad:
            answers = jnp.take_along_axis(sources[:, 0], left, axis=1)
            evidence = jnp.take_along_axis(links, left, axis=1)[..., None]
        else:
            answers = sources[:, 0, :1]
            evidence = jnp.where(jnp.arange(self.hops + 1)[None] <= hops, links, -1)[:, None]
        question = jnp.where(asked, jnp.take_along_axis(names[:, 0], left, axis=1), _FILLER)
        inputs = inputs.at[:, self.context_length].set(_ASK).at[:, self.context_length + 1 :].set(question)
        positions = jnp.where(asked, self.context_length + 1 + steps, 0)
        slices = {
            "distance": positions - evidence.max(axis=2),
            "hops": jnp.broadcast_to(hops, asked.shape),
        } | ({"steps_left": left} if self.scratchpad else {})
        return Batch(
            inputs=inputs,
            targets=jnp.where(asked, answers, 0),
            positions=positions,
            weights=asked.astype(jnp.float32),
            evidence=jnp.where(asked[..., None], evidence, -1),
            slices={name: jnp.where(asked, value, 0) for name, value in slices.items()},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Looks names up in a dictionary of the assignments, repeatedly if there is no scratchpad."""
        answers = np.zeros(np.shape(batch.positions), int)
        for row, positions, answer in zip(np.asarray(batch.inputs), np.asarray(batch.positions), answers, strict=True):
            context = row[: 2 * (self.context_length // 2)].reshape(-1, 2).tolist()
            given = {name: source for name, source in context if name != _FILLER}
            for column, position in enumerate(positions.tolist()):
                name = given.get(int(row[position]), 0)
                for _ in range(0 if self.scratchpad else self.hops):
                    name = given.get(name, name)
                answer[column] = name
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Guessing among the row's values, or its names where a name is due; and reading a single assignment.

        Reading a single assignment is the task itself with a scratchpad, or if chains have no hops.
        """
        value, asked = 1 / self.num_chains, range(0 if self.vary_hops else self.hops, self.hops + 1)
        if self.scratchpad:
            names = sum(asked) / len(asked)
            right = (names / max(self.num_chains * self.hops, 1) + value) / (names + 1)
            return {"guess a name on the right, or a value seen in context, whichever is due": right}
        floors = {"guess a value seen in context": value}
        if self.hops:
            once = sum(self._latest_value(hops) for hops in asked) / len(asked)
            floors["look the name up once; if it leads to a name, answer with the latest value before"] = once
        return floors

    def _latest_value(self, hops: int) -> float:
        """Returns how often the latest value before a name that is `hops` away from its value is that value.

        Let slots be uniform over [0, 1], m to a chain, and let a and b be what remains after the chain's value and
        after the name. Then a^m is uniform, z = b / a is Beta(m - hops, hops) and independent of it, and another
        chain's value lies in between with probability a^m (1 - z^m). None of the others does with probability
        E[(1 - a^m (1 - z^m))^(chains - 1)] = E[1 + z^m + ... + z^(m (chains - 1))] / chains.
        """
        size, chain = self.hops + 1, np.arange(self.num_chains)[:, None]
        first = size - hops + np.arange(hops)
        return float(np.prod(first / (first + size * chain), axis=1).mean())

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """An unseen value, if it is the next step, is one of those that the row does not show.

        No bound where a name is the next step or on the way: the chains that have been seen may leave a single name.
        """
        unmet = self.vocab_size - self.first_value - self.num_chains + 1
        left = np.asarray(batch.slices["steps_left" if self.scratchpad else "hops"])
        return np.where(left == 0, 1 / unmet, 1.0)

    @override
    def token_text(self, token: int) -> str:
        """Filler ".", marker "|", names "n7", values "v41"."""
        if token < _FIRST_NAME:
            return ".|"[token]
        return f"n{token}" if token < self.first_value else f"v{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Assignments in filler, the marker, the queried name, then the steps."""
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        end = self.context_length
        roles = ["filler" if text == "." else ("key", "value")[c % 2] for c, text in enumerate(texts[:end])]
        steps = ["filler" if text == "." else "answer" for text in texts[end + 2 :]]
        return list(zip(texts, [*roles, "marker", "query", *steps], strict=True))
