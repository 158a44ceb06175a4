"""Translation: write the image of a string that an encoder reads."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from attention_variants.checks import check_choice
from experiments.tasks import sampling
from experiments.tasks.base import Batch, Context, Task, check_size

_NOTHING = 0  # begins the translation, and pads whatever is shorter than the longest
_ORDERS = ("reverse", "same", "swap")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Translation(Task):
    """Translation by a fixed map of tokens and a fixed order.

    With `min_length=3, max_length=6, order="reverse"`; "_" is id 0::

        context: 5 2 7 3 _ _
        row:     _ 1 6 4 _ _
                 1 6 4 8       <- targets

    The context is a string of uniform length in min_length..max_length, with tokens uniform over ids 1..vocab_size - 1.
    The map from tokens to tokens is drawn once, by `map_seed`, with every one-to-one map equally likely; it is the same
    for all rows of training, validation and test. The order is that of the string (`same`), backwards (`reverse`), or
    with neighbours exchanged (`swap`; the last of an odd number of tokens stays). The row begins with "_", and the
    earlier tokens of the translation are given. The evidence for each token is the place in the context that it
    translates.

    References:
      Sutskever et al. 2014, arXiv:1409.3215, for the order backwards; Vaswani et al. 2017, arXiv:1706.03762, for a
      decoder that attends to an encoder.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "translation: write the image of a string that an encoder reads"
    slice_labels: ClassVar[Mapping[str, str]] = {
        "place": "token of the translation, from 0",
        "length": "length of the string",
    }
    answers_follow: ClassVar[bool] = True

    min_length: int = 8  # tokens of the shortest string
    max_length: int = 32  # tokens of the longest string, and of rows
    vocab_size: int = 32  # id 0 and at least 2 others, in the string and its translation
    order: str = "reverse"  # or same, or swap
    map_seed: int = 0  # draws the map

    def __post_init__(self) -> None:
        check_size("min_length", self.min_length, 1)
        check_size("max_length", self.max_length, self.min_length)
        check_size("vocab_size", self.vocab_size, 3)
        check_choice("order", self.order, _ORDERS)
        check_size("map_seed", self.map_seed, 0)

    @property
    @override
    def input_length(self) -> int:
        return self.max_length

    @property
    @override
    def context(self) -> Context:
        """The string, padded."""
        return Context(self.max_length, vocab_size=self.vocab_size)

    @property
    def image_of(self) -> Int[np.ndarray, " vocab_size"]:
        """The map, by token; id 0 stays."""
        # The old generator: its stream is frozen; that of the new one may change with NumPy.
        return np.append(0, 1 + np.random.RandomState(self.map_seed).permutation(self.vocab_size - 1)).astype(np.int32)

    def _source(self, place: Int[Array, "1 tokens"], length: Int[Array, "batch 1"]) -> Int[Array, "batch tokens"]:
        """Returns the place in the string of each token of the translation; beyond its end, any place."""
        if self.order == "reverse":
            return jnp.maximum(length - 1 - place, 0)
        return jnp.minimum(place ^ 1 if self.order == "swap" else place, length - 1)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        token_rng, length_rng = jax.random.split(rng)
        shape = (batch_size, self.max_length)
        tokens = jax.random.randint(token_rng, shape, 1, self.vocab_size, jnp.int32)
        length = jax.random.randint(length_rng, (batch_size, 1), self.min_length, self.max_length + 1, jnp.int32)
        place = jnp.arange(self.max_length, dtype=jnp.int32)[None]
        inside = place < length
        context, source = jnp.where(inside, tokens, _NOTHING), self._source(place, length)
        image = jnp.take_along_axis(jnp.asarray(self.image_of)[context], source, axis=1)
        targets = jnp.where(inside, image, _NOTHING)
        given = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=_NOTHING)
        return Batch(
            inputs=jnp.where(inside, given, _NOTHING),
            targets=targets,
            positions=jnp.where(inside, place, 0),
            weights=inside.astype(jnp.float32),
            evidence=jnp.where(inside, self.input_length + source, -1)[..., None],
            slices={"place": jnp.broadcast_to(place, shape), "length": jnp.broadcast_to(length, shape)},
            context=context,
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Translates token by token, and pads."""
        answers, image_of = np.zeros(np.shape(batch.positions), np.int32), self.image_of.tolist()
        for row, context in enumerate(np.asarray(batch.context).tolist()):
            words = [image_of[token] for token in context if token != _NOTHING]
            if self.order == "reverse":
                words.reverse()
            if self.order == "swap":
                even = len(words) // 2 * 2
                words[:even:2], words[1:even:2] = words[1:even:2], words[:even:2]
            answers[row, : len(words)] = words
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Guessing, the image of the string's most frequent token, and a place that does not depend on its length.

        The last is a shortcut only for `reverse`; in the other orders, and where all strings are equally long, it is
        the task.
        """
        lengths, kinds = range(self.min_length, self.max_length + 1), self.vocab_size - 1
        most_frequent = sum(sampling.expected_highest_count(length, kinds) for length in lengths) / sum(lengths)
        floors = {"guess a token": 1 / kinds, "guess the image of the most frequent token": most_frequent}
        if self.order == "reverse" and len(lengths) > 1:
            length = np.repeat(lengths, lengths)
            place = np.concatenate([np.arange(one) for one in lengths])
            copied = sampling.best_copies(place, length - 1 - place, length, kinds)
            floors["translate a fixed place, whatever the length"] = copied
        return floors

    @property
    @override
    def open_answers(self) -> int:
        """Tokens are independent: the others reveal nothing about one that is unseen."""
        return self.vocab_size - 1

    @override
    def at_length(self, length: int) -> Self:
        """Strings of up to `length` tokens, under the same map."""
        return dataclasses.replace(self, min_length=min(self.min_length, length), max_length=length)

    @override
    def token_text(self, token: int) -> str:
        """Id 0 "_"; other tokens by their ids."""
        return "_" if token == _NOTHING else str(token)

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The translation so far, and padding."""
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        return [(texts[0], "marker"), *((text, "filler" if text == "_" else "answer") for text in texts[1:])]

    @override
    def describe_context(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The string, and padding."""
        texts = [self.token_text(int(token)) for token in np.asarray(batch.context)[row]]
        return [(text, "filler" if text == "_" else "value") for text in texts]
