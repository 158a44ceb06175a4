"""In-context learning of regular languages: name a letter that may come next in strings of an unknown automaton."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import DISTANCE, Batch, Task, check_size

_FILLER, _BREAK, _FIRST_LETTER = 0, 1, 2
_MOST_OUT = 3  # letters that may leave a state
_LETTERS_DRAWN = 300_000  # about this many, for floors
_ROWS_AT_ONCE, _COUNTS_AT_ONCE = 1000, 2**28  # rows and their counts, of two bytes each


class _Automaton(NamedTuple):
    """State 0 is the start. From state s the letters[s, :out[s]] lead to the states leads_to[s, :out[s]]."""

    letters: Int[Array, "batch states 3"]
    leads_to: Int[Array, "batch states 3"]
    out: Int[Array, "batch states"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutomataICL(Task):
    """In-context learning of regular languages (RegBench): every row has strings of an automaton of its own.

    With `min_strings=3, max_strings=3, string_length=4`; "|" stands before every string, "." is filler::

        |  n  d  c  k  |  p  c  h  |  p  i  g  i  .
        n  d  c  k     p  c  h     p  i  g  i        <- targets; other letters may be as right

    A row has `min_strings`..`max_strings` strings of 1..`string_length` letters. An automaton has 4 to `max_states`
    states. Its alphabet is 4 or more of the `num_letters` letters; from each state, 1 to 3 of these, distinct, lead to
    distinct other states. All numbers and choices are uniform. A string begins at the start state and follows uniformly
    drawn letters.

    Every letter is trained on and scored, and any letter that may come there is right: `targets` has the one that
    comes, `also_right` the others. Where an earlier string began the same way, the row decides an answer, and the slice
    `known` is 1. Elsewhere, a model must infer that it has seen its current state, if it has; the best possible
    accuracy is unknown. The evidence is the row so far, and no bound is claimed. Slices: `strings` before this one,
    `letters` of this string so far.

    References:
      Akyurek et al. 2024, "In-context language learning: architectures and algorithms", arXiv:2401.12973: RegBench,
      with 10 to 19 strings of up to 49 letters. They train on 5,000 automata for 200 epochs and test on 500 others;
      here every row has a fresh one. They minimise automata, which changes no string and no set of letters.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "in-context learning of automata: name a letter that may come next"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "known": "whether an earlier string began the same way (1) or not (0)",
        "strings": "strings before this one",
        "letters": "letters of the string so far",
    }
    every_change_counts: ClassVar[bool] = False
    reads_its_evidence: ClassVar[bool] = True
    known: ClassVar[str | None] = "known"

    min_strings: int = 5
    max_strings: int = 9  # published: 10 to 19
    string_length: int = 15  # letters of the longest string; published: 49
    num_letters: int = 18
    max_states: int = 12

    def __post_init__(self) -> None:
        check_size("min_strings", self.min_strings, 2)
        check_size("max_strings", self.max_strings, self.min_strings)
        check_size("string_length", self.string_length, 1)
        check_size("num_letters", self.num_letters, 4)
        check_size("max_states", self.max_states, 4)

    @property
    @override
    def vocab_size(self) -> int:
        """Filler, break, letters."""
        return _FIRST_LETTER + self.num_letters

    @property
    @override
    def input_length(self) -> int:
        """The largest number of the longest strings, each after a break."""
        return self.max_strings * (self.string_length + 1)

    @property
    @override
    def train_length(self) -> float:
        return float(self.max_strings)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        automaton_rng, count_rng, length_rng, letter_rng = jax.random.split(rng, 4)
        shape = (batch_size, self.max_strings)
        count = jax.random.randint(count_rng, (batch_size, 1), self.min_strings, self.max_strings + 1, jnp.int32)
        string = jnp.arange(self.max_strings, dtype=jnp.int32)[None]
        length = jax.random.randint(length_rng, shape, 1, self.string_length + 1, jnp.int32)
        length = jnp.where(string < count, length, 0)
        letters, right = self._write(letter_rng, self._draw_automaton(automaton_rng, batch_size))

        # Letter d of string j is read out one token before: at the break for the first.
        place = jnp.arange(self.string_length, dtype=jnp.int32)[None, None]
        exists, taken = place < length[..., None], length + (string < count)
        start = jnp.cumsum(taken, axis=1, dtype=jnp.int32) - taken  # of each string's break
        before = start[..., None] + place
        rows = jnp.arange(batch_size)[:, None]
        inputs = jnp.full((batch_size, self.input_length), _FILLER, jnp.int32)
        inputs = inputs.at[rows, jnp.where(string < count, start, self.input_length)].set(_BREAK, mode="drop")
        written = jnp.where(exists, before + 1, self.input_length).reshape(batch_size, -1)
        inputs = inputs.at[rows, written].set(letters.reshape(batch_size, -1), mode="drop")

        column = jnp.arange(self.input_length, dtype=jnp.int32)[None, None, None]
        evidence = jnp.where(exists[..., None] & (column <= before[..., None]), column, -1)
        also = jnp.where(exists[..., None] & (right != letters[..., None]), right, -1)
        slices = {
            "distance": jnp.zeros_like(before),
            "known": _began_alike(letters, length).astype(jnp.int32),
            "strings": jnp.broadcast_to(string[..., None], before.shape),
            "letters": jnp.broadcast_to(place, before.shape),
        }
        flat = {
            "targets": jnp.where(exists, letters, 0),
            "positions": jnp.where(exists, before, 0),
            "weights": exists.astype(jnp.float32),
        }
        return Batch(
            inputs=inputs,
            **{name: value.reshape(batch_size, -1) for name, value in flat.items()},
            evidence=evidence.reshape(batch_size, -1, self.input_length),
            slices={name: jnp.where(exists, value, 0).reshape(batch_size, -1) for name, value in slices.items()},
            also_right=also.reshape(batch_size, -1, _MOST_OUT),
        )

    def _draw_automaton(self, rng: PRNGKeyArray, batch_size: int) -> _Automaton:
        count_rng, size_rng, alphabet_rng, letter_rng, state_rng, out_rng = jax.random.split(rng, 6)
        states, letters = (batch_size, self.max_states), (batch_size, self.num_letters)
        count = jax.random.randint(count_rng, (batch_size, 1), 4, self.max_states + 1, jnp.int32)
        size = jax.random.randint(size_rng, (batch_size, 1), 4, self.num_letters + 1, jnp.int32)
        noise = jax.random.uniform(alphabet_rng, letters, jnp.float32)
        used = (noise[..., None] > noise[:, None]).sum(axis=2) < size  # those with the lowest numbers

        noise = jax.random.uniform(letter_rng, (*states, self.num_letters), jnp.float32)
        leaving = _highest(jnp.where(used[:, None], noise, -1))
        state = jnp.arange(self.max_states)
        other = (state[None, :, None] != state[None, None]) & (state[None, None] < count[..., None])
        noise = jax.random.uniform(state_rng, (*states, self.max_states), jnp.float32)
        leads_to = _highest(jnp.where(other, noise, -1))
        out = jax.random.randint(out_rng, states, 1, _MOST_OUT + 1, jnp.int32)
        return _Automaton(_FIRST_LETTER + leaving, leads_to, out)

    def _write(
        self, rng: PRNGKeyArray, automaton: _Automaton
    ) -> tuple[Int[Array, "batch strings letters"], Int[Array, "batch strings letters 3"]]:
        """Returns the letters of strings of full length, and at each of them all that may come there, -1 padding."""
        batch_size = len(automaton.out)
        rows, shape = jnp.arange(batch_size)[:, None], (self.string_length, batch_size, self.max_strings)
        choices = jax.random.uniform(rng, shape, jnp.float32)

        def step(state: Array, choice: Array) -> tuple[Array, tuple[Array, Array]]:
            out = automaton.out[rows, state]
            chosen = jnp.minimum((choice * out).astype(jnp.int32), out - 1)[..., None]
            letters = automaton.letters[rows, state]
            right = jnp.where(jnp.arange(_MOST_OUT)[None, None] < out[..., None], letters, -1)
            after = jnp.take_along_axis(automaton.leads_to[rows, state], chosen, axis=2)[..., 0]
            return after, (jnp.take_along_axis(letters, chosen, axis=2)[..., 0], right)

        _, (letters, right) = jax.lax.scan(step, jnp.zeros(shape[1:], jnp.int32), choices)
        return letters.transpose(1, 2, 0), right.transpose(1, 2, 0, 3)

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Repeats what first followed the same beginning of a string; 0 where no string began the same way."""
        answers = np.zeros(np.shape(batch.positions), np.int32)
        for tokens, positions, answer in zip(batch.inputs, batch.positions, answers, strict=True):
            following: dict[tuple[int, ...], int] = {}
            read, said = np.asarray(tokens).tolist(), {}
            beginning: tuple[int, ...] = ()
            for position, (token, after) in enumerate(zip(read, read[1:] + [_FILLER], strict=True)):
                beginning = () if token == _BREAK else (*beginning, token)
                said[position] = following.get(beginning, 0)
                if after >= _FIRST_LETTER:
                    following.setdefault(beginning, after)
            answer[:] = [said[position] for position in np.asarray(positions).tolist()]
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Guessing, and the letter most frequent so far: overall, after the same letter, after the same two.

        Not from a formula, but counted on as many fixed rows as have about 300,000 letters. A break counts as a
        preceding letter; nothing before it does. Where nothing has followed the two letters so far, one is used, then
        none.
        """
        return dict(_floors(self))

    @override
    def at_length(self, length: int) -> Self:
        """Rows of that many strings."""
        return dataclasses.replace(self, min_strings=length, max_strings=length)

    @override
    def at_lengths(self, shortest: int, longest: int) -> Self:
        return dataclasses.replace(self, min_strings=shortest, max_strings=longest)

    @override
    def token_text(self, token: int) -> str:
        """Filler ".", break "|", letters."""
        if token < _FIRST_LETTER:
            return ".|"[token]
        letter = token - _FIRST_LETTER
        return "abcdefghijklmnopqrstuvwxyz"[letter] if self.num_letters <= 26 else f"l{letter}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Breaks, letters, filler."""
        roles = {_FILLER: "filler", _BREAK: "marker"}
        return [(self.token_text(token), roles.get(token, "value")) for token in np.asarray(batch.inputs[row]).tolist()]


def _began_alike(letters: Int[Array, "batch strings letters"], length: Int[Array, "batch strings"]) -> Array:
    """Returns, for each letter, whether an earlier string has the same letters before it and goes on."""
    string, place = (jnp.arange(size, dtype=jnp.int32) for size in letters.shape[1:])
    differ = letters[:, :, None] != letters[:, None]  # at a letter, from an earlier string
    alike = jnp.where(differ, place[None, None, None], len(place)).min(axis=3)  # letters that both begin with
    last = jnp.minimum(alike, length[:, None] - 1)  # letter that the earlier string has after the same beginning
    earlier = (string[:, None] > string[None])[None]
    return place[None, None] <= jnp.where(earlier, last, -1).max(axis=2)[..., None]


def _highest(noise: Array) -> Int[Array, "batch states 3"]:
    """Returns the indices of the highest numbers, which are distinct draws; faster to compile than `top_k`."""
    found = []
    for _ in range(_MOST_OUT):
        found.append(jnp.argmax(noise, axis=2).astype(jnp.int32))
        taken = jnp.arange(noise.shape[2], dtype=jnp.int32)[None, None] == found[-1][..., None]
        noise = jnp.where(taken, -2, noise)
    return jnp.stack(found, axis=2)


@functools.cache
def _floors(task: AutomataICL) -> dict[str, float]:
    """Returns the floors, counted on fixed rows."""
    quick = {"xla_backend_optimization_level": 0}  # compiling takes longer than drawing
    draw = jax.jit(task.sample, static_argnums=1, compiler_options=quick)
    expected = (task.min_strings + task.max_strings) * (task.string_length + 1) / 4  # letters of a row
    rows = max(1, min(_ROWS_AT_ONCE, _COUNTS_AT_ONCE // task.vocab_size**3))
    batches = max(1, round(_LETTERS_DRAWN / expected / rows))
    names = (
        "guess a letter",
        "answer with the most frequent letter so far",
        "answer with what most often followed the last letter so far",
        "answer with what most often followed the last two letters so far",
    )
    total, right = 0.0, np.zeros(len(names))
    for seed in range(batches):
        batch = draw(jax.random.key(seed), rows)
        inputs, positions, weights = (np.asarray(array) for array in (batch.inputs, batch.positions, batch.weights))
        also, legal = np.asarray(batch.also_right), 1 + (np.asarray(batch.also_right) >= 0).sum(axis=2)
        total += weights.sum()
        right[0] += (weights * legal).sum() / task.num_letters
        for number, answers in enumerate(_by_counts(inputs, task.vocab_size), 1):
            said = np.take_along_axis(answers, positions, axis=1)
            hit = (said == np.asarray(batch.targets)) | (said[..., None] == also).any(axis=2)
            right[number] += (weights * hit).sum()
    return dict(zip(names, (right / total).tolist(), strict=True))


def _by_counts(inputs: Int[np.ndarray, "rows length"], vocab_size: int) -> list[Int[np.ndarray, "rows length"]]:
    """Returns what to answer at each position by the counts so far: of letters, after one letter, after two."""
    rows, (many, length) = np.arange(len(inputs)), inputs.shape
    counts = [np.zeros((many, vocab_size**order, vocab_size), np.int16) for order in range(3)]
    answers = [np.zeros_like(inputs) for _ in counts]
    one, two = np.zeros_like(rows), np.zeros_like(rows)  # what is read: the last token, and the last two of a string
    for position in range(length):
        token = inputs[:, position]
        if position:  # the token came after what was read before
            letter = token >= _FIRST_LETTER
            for count, read in zip(counts, (0 * one, one, two), strict=True):
                count[rows[letter], read[letter], token[letter]] += 1
        two = np.where(token == _BREAK, _BREAK, one * vocab_size + token)
        one = token
        best = np.zeros_like(rows)
        for count, read, answer in zip(counts, (0 * one, one, two), answers, strict=True):
            here = count[rows, read]
            best = np.where(here.any(axis=1), here.argmax(axis=1), best)
            answer[:, position] = best
    return answers
