"""Regular languages: parity, even pairs and cycle navigation. A finite state carried along the string solves each."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.formal.string_task import Strings, StringTask, one_class, whole_string

_PLACES = 5  # on the cycle


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity(StringTask):
    """Parity: the number of ones, modulo 2.

    With `max_length=8`; "=" is the marker, "." a blank::

        1  0  1  0  1  0  =  .  .
                          1        <- target: three ones

    Symbols are uniform bits. The evidence is every position of the string: if one bit is unseen, both answers are
    equally likely.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "parity check".
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "parity: is the number of ones odd?"
    symbols = ("0", "1")
    open_answers = 2

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        symbols, inside = _uniform(rng, length, self.max_length, 2)
        ones = jnp.sum(symbols, axis=1, where=inside)
        return one_class(ones % 2, whole_string(length, self.max_length), symbols)

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Flips a bit at each one."""
        odd = False
        for symbol in string:
            odd ^= bool(symbol)
        return [int(odd)]

    @override
    def floors(self) -> dict[str, float]:
        """Guessing, and the first bit, which is the answer if there is no other."""
        lengths = list(self.lengths())
        return {"guess a bit": 1 / 2, "answer with the first bit": (1 + lengths.count(1) / len(lengths)) / 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvenPairs(StringTask):
    """Even pairs: is the number of places with 01 or 10 odd? It is if the first and the last bit differ.

    With `max_length=8`::

        0  0  1  1  1  0  =  .  .
                          0        <- target: one 01 and one 10

    Symbols are uniform bits, and strings have at least two of them. The evidence is the first and the last position.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "even pairs".
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "even pairs: do the first and the last bit differ?"
    shortest: ClassVar[int] = 2
    symbols = ("0", "1")
    open_answers = 2

    min_length: int = 2

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        symbols, _ = _uniform(rng, length, self.max_length, 2)
        ends = jnp.concatenate([jnp.zeros_like(length), length - 1], axis=1)
        first, last = jnp.take_along_axis(symbols, ends, axis=1).T
        return one_class(first ^ last, ends[:, None], symbols)

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Counts changes between neighbours."""
        return [sum(one != other for one, other in zip(string, string[1:], strict=False)) % 2]

    @override
    def floors(self) -> dict[str, float]:
        """Both answers are equally likely."""
        return {"guess a bit": 1 / 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleNavigation(StringTask):
    """Cycle navigation: where on a cycle of five places does a walk from place 0 end?

    With `max_length=8`; 0 is a step back, 1 stays, 2 is a step ahead::

        2  1  2  2  0  2  2  =  .
                             4     <- target: five ahead, one back

    Steps are uniform; the answer is the sum of (step - 1), modulo 5. The evidence is every position of the string: if
    one step is unseen, three places are equally likely.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "cycle navigation".
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "cycle navigation: on which of five places does a walk end?"
    symbols = tuple("01234")
    open_answers = 3

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        symbols, inside = _uniform(rng, length, self.max_length, 3)
        place = jnp.sum(symbols - 1, axis=1, where=inside) % _PLACES
        return one_class(place, whole_string(length, self.max_length), symbols)

    @override
    def solution(self, string: list[int]) -> list[int]:
        place = 0
        for step in string:
            place = (place + (4, 0, 1)[step]) % _PLACES
        return [place]

    @override
    def floors(self) -> dict[str, float]:
        """The likeliest place, 0: short walks end close to where they began."""
        place, lengths, total = np.eye(_PLACES)[0], list(self.lengths()), np.zeros(_PLACES)
        for length in range(1, self.max_length + 1):
            place = (np.roll(place, -1) + place + np.roll(place, 1)) / 3
            total += lengths.count(length) * place
        return {"answer with the likeliest place": float(total.max()) / len(lengths)}


def _uniform(rng: PRNGKeyArray, length: Array, max_length: int, kinds: int) -> tuple[Array, Array]:
    """Returns uniform symbols, and which of them are within the string."""
    symbols = jax.random.randint(rng, (len(length), max_length), 0, kinds, jnp.int32)
    return symbols, jnp.arange(max_length, dtype=jnp.int32)[None] < length
