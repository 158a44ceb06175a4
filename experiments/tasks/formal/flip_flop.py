"""Flip-flop: say the bit that was written last, whatever was ignored since."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from typing_extensions import override

from attention_variants.checks import check_number
from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_even, check_size

_WRITE, _READ, _IGNORE = 2, 3, 4  # ids 0 and 1 are the bits
_SEEN = 2  # pairs before a read that a shortcut knows, as a short convolution can provide them


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlipFlop(FixedLength):
    """Flip-flop language modelling: a memory of one bit.

    With `length=16`; w writes a bit, r reads it, i is to be ignored::

        w 1 i 0 r 1 i 0 w 0 i 1 i 0 r 0
                1                   0    <- targets

    A row consists of pairs of an instruction and a bit. The first instruction writes, the last one reads, and the
    others ignore with probability `ignore` and otherwise write or read equally often. Bits after w and i are uniform;
    the bit after r is the one that was written last, and is predicted at the r. Published rows have 512 tokens; models
    are trained with `ignore` 0.8 and tested with 0.98 (few writes, far back) and 0.1 (many) as well, see
    `eval.shifted`. The published measure is the error rate, 1 minus the accuracy, over at least 1e5 reads: 4096 rows of
    512 tokens have as many at 0.8.

    The evidence is the last written bit and every bit read since, each of which is enough. The slice `written` is the
    distance to the write.

    References:
      Liu et al. 2023, "Exposing attention glitches with flip-flop language modeling", arXiv:2306.00946; Yang et al.
      2025, "PaTH attention", arXiv:2505.16381, table 1, for the tests. They train on the bits after r alone.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "flip-flop: say the bit that was written last"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"written": "tokens back to the write"}
    every_change_counts: ClassVar[bool] = False  # the write and each read since say the same
    any_evidence_suffices: ClassVar[bool] = True

    length: int = 128  # tokens per row, even
    ignore: float = 0.8  # share of instructions to ignore; writes and reads get half of the rest each

    def __post_init__(self) -> None:
        check_size("length", self.length, 4)
        check_even("length", self.length)
        check_number("ignore", self.ignore, 0.0, 0.999)

    @property
    @override
    def vocab_size(self) -> int:
        """Two bits and three instructions."""
        return 5

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        kind_rng, bit_rng = jax.random.split(rng)
        pairs, shape = self.length // 2, (batch_size, self.length // 2)
        pair = jnp.arange(pairs, dtype=jnp.int32)[None]
        uniform = jax.random.uniform(kind_rng, shape, jnp.float32)
        kind = jnp.where(uniform < self.ignore, _IGNORE, jnp.where(uniform < (1 + self.ignore) / 2, _WRITE, _READ))
        kind = jnp.where(pair == 0, _WRITE, jnp.where(pair == pairs - 1, _READ, kind)).astype(jnp.int32)
        write = jax.lax.cummax(jnp.where(kind == _WRITE, pair, 0), axis=1)  # pair of the last one
        drawn = jax.random.randint(bit_rng, shape, 0, 2, jnp.int32)
        bits = jnp.where(kind == _READ, jnp.take_along_axis(drawn, write, axis=1), drawn)

        # Any pair but the first may read. All pairs since the write that do not ignore hold its bit.
        asked, reading, before = kind[:, 1:] == _READ, pair[:, 1:], pair[:, None, :-1]
        says = (before >= write[:, 1:, None]) & (before < reading[..., None]) & (kind != _IGNORE)[:, None, :-1]
        evidence = jnp.where(asked[..., None] & says, 2 * before + 1, -1)
        slices = {"distance": 2 * reading - evidence.max(axis=2), "written": 2 * (reading - write[:, 1:]) - 1}
        return Batch(
            inputs=jnp.stack([kind, bits], axis=2).reshape(batch_size, self.length),
            targets=jnp.where(asked, bits[:, 1:], 0),
            positions=jnp.where(asked, 2 * reading, 0),
            weights=asked.astype(jnp.float32),
            evidence=evidence,
            slices={name: jnp.where(asked, value, 0) for name, value in slices.items()},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Keeps the bit."""
        answers = np.zeros(np.shape(batch.positions), np.int32)
        for tokens, positions, answer in zip(batch.inputs, batch.positions, answers, strict=True):
            kept, bit = {}, 0
            for place, (instruction, given) in enumerate(np.asarray(tokens).reshape(-1, 2).tolist()):
                bit = given if instruction == _WRITE else bit
                kept[2 * place] = bit
            answer[:] = [kept[position] for position in np.asarray(positions).tolist()]
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """The bit just before; and the latest of the last two pairs that counts, else the first or the commonest one.

        A bit counts if it is written or read. For a read at pair j > 2, the last two pairs tell the bit unless both
        ignore. Otherwise, the first bit is right if none of the pairs 1 .. j - 3 writes, and half of the time if one
        does; the commonest one is right as often as most of the bits that count up to there agree with the last one.
        """
        pairs, writes = self.length // 2, (1 - self.ignore) / 2
        j = np.arange(1, pairs)
        weight = np.where(j == pairs - 1, 1.0, writes)  # inner pairs read as often as they write
        unknown = np.where(j <= _SEEN, 0.0, self.ignore**_SEEN)
        before = np.maximum(j - _SEEN, 1)  # pairs that are not seen
        unwritten = (1 - writes) ** (before - 1)
        agree = _mostly_agree(pairs, self.ignore)[before - 1]
        seen = "say the latest bit that counts in the last two pairs or, if there is none, the "
        scores = {
            "guess a bit": np.full(pairs - 1, 1 / 2),
            "say the bit just before": 1 - np.where(j == 1, 0.0, self.ignore) / 2,
            seen + "first one": 1 - unknown * (1 - unwritten) / 2,
            seen + "commonest that counts": 1 - unknown * (1 - agree),
        }
        return {name: float(np.average(score, weights=weight)) for name, score in scores.items()}

    @property
    @override
    def open_answers(self) -> int:
        """Bits are independent: those of other writes reveal nothing about one that is unseen."""
        return 2

    @override
    def token_text(self, token: int) -> str:
        """Bits 0 and 1; w, r and i."""
        return "01wri"[token]

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Instructions, of which reads are queries, each with its bit."""
        roles = {_WRITE: ("marker", "value"), _READ: ("query", "answer"), _IGNORE: ("marker", "filler")}
        tokens = np.asarray(batch.inputs[row]).tolist()
        both = [role for instruction in tokens[::2] for role in roles[instruction]]
        return [(self.token_text(token), role) for token, role in zip(tokens, both, strict=True)]


def _mostly_agree(pairs: int, ignore: float) -> Float[np.ndarray, " pairs"]:
    """Returns how often the commonest of the bits that count is the kept one, after each pair; a tie counts half.

    Tracks the law of how many more bits agree with the kept one than differ from it.
    """
    law, found = np.zeros(2 * pairs + 1), []
    law[pairs + 1] = 1.0  # the first write; the middle is a tie
    for _ in range(pairs):
        found.append(law[pairs + 1 :].sum() + law[pairs] / 2)
        same, other = np.roll(law, 1), np.roll(law[::-1], 1)  # the bit that comes is the kept one, or not
        law = ignore * law + (1 - ignore) * (3 * same + other) / 4  # half of the bits that come are reads
    return np.array(found)
