"""Skill pairs: apply two named skills to a string, one after the other; some pairs are held out from training."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from attention_variants import specs
from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size
from experiments.tasks.sequences.skill_pairs_floors import Applied, copied, likeliest, right

_FILLER, _ASK, _NO_SKILL, _FIRST_SKILL = 0, 1, 2, 3
_ALL, _ALONE, _MAPS, _ORDERS, _MIXED = "all", "alone", "maps", "orders", "mixed"
PAIRS = (_ALL, _ALONE, _MAPS, _ORDERS, _MIXED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkillPairs(FixedLength):
    """Skill pairs: known skills in pairings that training may not have shown.

    With `length=12, string_length=4`, where map f3 takes x13 to x12, and order g8 reads a string backwards::

        f3 g8 x13 x11 x12 x14  .   .   _   _   _   _
                                      x15 x16 x11 x12   <- targets

    A skill is a map, which permutes the symbols of the alphabet, or an order, which permutes the places of the string.
    `num_skills` of each are drawn once, by `skill_seed`, all different and none of them the identity. A row names two
    skills, or one and "-" in either place, then gives a string of uniform symbols; the answer is the string after the
    first and then the second skill, and is read at the question marks, id 1, here "_". A longer row has filler, id 0,
    before them.

    All skills stand in a ring, two maps and two orders in turn. Neighbours never meet in training, in either order; all
    other pairs, and every skill alone, occur there and are equally likely. So each skill is seen alone and with all
    others but two. `unseen` draws from the pairs of neighbours instead. `pairs` restricts rows to two maps, two orders,
    one of each (mixed), or one skill alone.

    The evidence is both names, and the symbol that the answer is made from; the slice `pair` is the kind of pair. Two
    skills may do the same to a symbol, so no bound is claimed.

    References:
      Ramesh et al. 2024, "Compositional capabilities of autoregressive transformers: a study on synthetic,
      interpretable tasks", arXiv:2311.12997, with maps and permutations of up to five steps. There the answer is
      written token by token; here every symbol of it is read at a place of its own.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "skill pairs: apply two known skills to a string, in pairings that may be new"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "pair": "kind of pair: one skill, two maps, two orders, one of each (0 to 3)"
    }
    every_change_counts: ClassVar[bool] = False  # skills may do the same to one symbol

    length: int = 14  # tokens per row: at least 2 + 2 * string_length
    string_length: int = 6
    num_symbols: int = 10
    num_skills: int = 4  # of maps, and of orders; even
    skill_seed: int = 0  # draws the skills
    pairs: str = _ALL  # all, alone, maps, orders or mixed
    unseen: bool = False  # the pairs that training never shows

    def __post_init__(self) -> None:
        check_size("string_length", self.string_length, 4)
        check_size("num_symbols", self.num_symbols, 5)
        check_size("num_skills", self.num_skills, 4)
        check_size("skill_seed", self.skill_seed, 0)
        check_size("length", self.length, 1)
        if self.num_skills % 2 or self.num_skills > 16:  # of few symbols there are no more permutations
            raise ValueError(f"`num_skills` must be even and at most 16; got {self.num_skills}.")
        if self.pairs not in PAIRS:
            raise ValueError(specs.unknown("`pairs`", self.pairs, PAIRS))
        if self.unseen and self.pairs == _ALONE:
            raise ValueError("`unseen` has no skill alone: training shows each of them; `pairs` must be another kind.")
        if self.length < 2 + 2 * self.string_length:
            raise ValueError(
                f"`length` must be at least {2 + 2 * self.string_length} for this string; got {self.length}."
            )

    @property
    @override
    def vocab_size(self) -> int:
        """Filler, question mark, no skill, maps, orders and symbols."""
        return self.first_symbol + self.num_symbols

    @property
    def first_symbol(self) -> int:
        """Maps, then orders, are 3..first_symbol - 1, symbols first_symbol..vocab_size - 1."""
        return _FIRST_SKILL + 2 * self.num_skills

    @property
    def skills(self) -> tuple[Int[np.ndarray, "skills num_symbols"], Int[np.ndarray, "skills string_length"]]:
        """What each skill does to symbols, and to places; the last one is none."""
        draw = np.random.RandomState(self.skill_seed)  # its stream is frozen; that of the new generator is not
        maps, orders = (_permutations(draw, self.num_skills, size) for size in (self.num_symbols, self.string_length))
        none, other = np.arange(self.num_symbols), np.arange(self.string_length)
        return (
            np.stack([*maps, *[none] * (self.num_skills + 1)]),
            np.stack([*[other] * self.num_skills, *orders, other]),
        )

    def applied(self, *, unseen: bool) -> Applied:
        """Returns the pairs of the chosen kind that training shows, or those that it never shows."""
        return _applied(dataclasses.replace(self, unseen=unseen))

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        pair_rng, string_rng = jax.random.split(rng)
        pairs, orders, maps = (jnp.asarray(each, jnp.int32) for each in self.applied(unseen=self.unseen))
        pair = jax.random.randint(pair_rng, (batch_size,), 0, len(pairs), jnp.int32)
        shape = (batch_size, self.string_length)
        string = jax.random.randint(string_rng, shape, 0, self.num_symbols, jnp.int32)
        names = pairs[pair]
        asked = self.length - self.string_length
        inputs = jnp.full((batch_size, self.length), _FILLER, jnp.int32).at[:, asked:].set(_ASK)
        inputs = inputs.at[:, :2].set(jnp.where(names == 2 * self.num_skills, _NO_SKILL, _FIRST_SKILL + names))
        inputs = inputs.at[:, 2 : 2 + self.string_length].set(self.first_symbol + string)
        source = orders[pair]
        answers = jnp.take_along_axis(maps[pair], jnp.take_along_axis(string, source, axis=1), axis=1)
        positions = jnp.broadcast_to(asked + jnp.arange(self.string_length, dtype=jnp.int32), shape)
        named = jnp.broadcast_to(jnp.arange(2, dtype=jnp.int32), (*shape, 2))
        return Batch(
            inputs=inputs,
            targets=self.first_symbol + answers,
            positions=positions,
            weights=jnp.ones(shape, jnp.float32),
            evidence=jnp.concatenate([named, 2 + source[..., None]], axis=2),
            slices={
                "distance": positions - 2 - source,
                "pair": jnp.broadcast_to(self._kind(names)[:, None], shape).astype(jnp.int32),
            },
        )

    def _kind(self, names: Array) -> Int[Array, " batch"]:
        """Returns the slice `pair` of rows with these skills."""
        maps = (names < self.num_skills).sum(axis=1)
        return jnp.where((names == 2 * self.num_skills).any(axis=1), 0, jnp.asarray([2, 3, 1])[maps])

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Applies the skills to the string, one after the other."""
        maps, orders = self.skills
        answers = np.zeros(np.shape(batch.positions), int)
        for answer, row in zip(answers, np.asarray(batch.inputs), strict=True):
            string = row[2 : 2 + self.string_length] - self.first_symbol
            for name in row[:2]:
                if name != _NO_SKILL:
                    string = maps[name - _FIRST_SKILL][string[orders[name - _FIRST_SKILL]]]
            answer[:] = self.first_symbol + string
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Shortcuts that know only one skill of a pair, or neither."""
        own, shown = self.applied(unseen=self.unseen), dataclasses.replace(self, pairs=_ALL).applied(unseen=False)
        maps, orders = self.skills
        found = {"guess a symbol": 1 / self.num_symbols, "copy each answer from its likeliest place": copied(own)}
        for place, name in enumerate(("first", "second")):
            skill = own.pairs[:, place]
            found[f"apply the {name} skill alone"] = right(own, orders[skill], maps[skill][:, None])
            order, answer = (
                np.stack(part) for part in zip(*(likeliest(shown, place, each) for each in skill), strict=True)
            )
            found[f"know the {name} skill, and what is likeliest with it in training"] = right(own, order, answer)
        return found

    @override
    def token_text(self, token: int) -> str:
        """Filler ".", question mark "_", no skill "-", maps "f3", orders "g7", symbols "x11"."""
        if token < _FIRST_SKILL:
            return "._-"[token]
        return f"{'x' if token >= self.first_symbol else 'f' if token < _FIRST_SKILL + self.num_skills else 'g'}{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Two skills, the string, filler and questions."""
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        return [(text, {"x": "value", ".": "filler", "_": "query"}.get(text[0], "key")) for text in texts]


def _permutations(draw: np.random.RandomState, count: int, size: int) -> list[Int[np.ndarray, " size"]]:
    """Returns different permutations, none of them the identity."""
    found: dict[tuple[int, ...], Int[np.ndarray, " size"]] = {}
    while len(found) < count:
        one = draw.permutation(size)
        if (one != np.arange(size)).any():
            found.setdefault(tuple(one.tolist()), one)
    return list(found.values())


@functools.cache
def _applied(task: SkillPairs) -> Applied:
    pairs = np.array(
        [pair for pair in itertools.product(range(2 * task.num_skills + 1), repeat=2) if _has(task, *pair)]
    )
    maps, orders = task.skills
    first, second = pairs.T
    order = np.take_along_axis(orders[first], orders[second], axis=1)
    return Applied(pairs, order, np.take_along_axis(maps[second], maps[first], axis=1))


def _has(task: SkillPairs, first: int, second: int) -> bool:
    """Whether rows of the task have this pair; the number of all skills stands for none."""
    none = 2 * task.num_skills
    if none in (first, second):
        return first != second and not task.unseen and task.pairs in (_ALL, _ALONE)
    places = (_place(skill, task.num_skills) for skill in (first, second))
    neighbours = (next(places) - next(places)) % none in (1, none - 1)
    kind = (_MAPS, _MIXED, _ORDERS)[(first >= task.num_skills) + (second >= task.num_skills)]
    return first != second and neighbours == task.unseen and task.pairs in (_ALL, kind)


def _place(skill: int, num_maps: int) -> int:
    """Returns where a skill stands in the ring: map, map, order, order, map, map ..."""
    kind, number = divmod(skill, num_maps)
    return 4 * (number // 2) + 2 * kind + number % 2
