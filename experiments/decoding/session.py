"""A trained model decoded on rows of its task, or from given tokens: answers, the check, seconds and state."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from experiments.config.run import Run
from experiments.decoding import answers, measures
from experiments.decoding.answers import Score
from experiments.decoding.decoder import Decoded, Decoder, Rows
from experiments.decoding.measures import Kept, Seconds
from experiments.decoding.parallel import Difference, Parallel
from experiments.model.streams import TEST, split_key
from experiments.model.transformer import Model
from experiments.tasks.base import Batch

RIGHT, OWN = "right answers", "own answers"


class Costs(NamedTuple):
    """How long decoding took, and what it keeps of a row."""

    seconds: Seconds
    kept: list[Kept]
    rows: int
    prompt: int  # tokens that were prefilled
    length: int  # tokens in all


class OnRows(NamedTuple):
    """What a model answered on rows of its task."""

    rows: Batch
    decoded: dict[str, Decoded]  # by what was read after an answer: RIGHT, and OWN where answers are read at all
    scores: dict[str, Score]
    whole: int  # whole answers, see `answers.whole_answers`
    difference: Difference  # the largest from the parallel pass
    costs: Costs


class OnTokens(NamedTuple):
    """How a model continued given tokens."""

    decoded: Decoded  # of one row
    given: int  # tokens
    difference: Difference
    costs: Costs


# How far decoding may be from the parallel pass, by `train.dtype`: bfloat16 keeps 8 bits, and both passes round sums.
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """A trained model and how it is decoded."""

    run: Run
    model: Model
    temperature: float = 0.0  # 0: the likeliest token
    seed: int = 0  # of answers that are drawn
    tolerance: float = 1e-3  # of the largest logit, see TOLERANCES

    def __post_init__(self) -> None:
        """Raises NotImplementedError where the model has no token-by-token form; one line."""
        measures.kept(self.model, self.run, 1)

    def on_rows(self, count: int) -> OnRows:
        """Decodes rows of the task that training has not shown: those that `experiments.inspect` looks at.

        A row is prefilled up to its first answer, or up to half of it if that comes first.

        Raises:
          DifferentError: decoding is not the parallel pass.
          ValueError: the task asks for distributions, which no token answers; one line.
        """
        task = self.run.task
        if task.distributions:
            raise ValueError(f"{type(task).__name__} asks for distributions, which no token answers; decode tokens.")
        rows = jax.jit(task.sample, static_argnums=1)(split_key(jax.random.key(self.run.seed), TEST), count)
        given = Rows.given(rows.inputs, rows.context)
        own = answers.own_tokens(task, rows)
        decoder = Decoder(self.model, given, prompt_of(rows), self.temperature)
        kinds = {RIGHT: given} | ({OWN: given._replace(own=jnp.asarray(own))} if own.any() else {})
        decoded, parallel, rng = {}, Parallel(self.model), jax.random.key(self.seed)
        differences, scores = [], {}
        whole = answers.whole_answers(rows, own)
        for name, kind in kinds.items():
            decoded[name] = decoder(kind, rng)
            differences.append(parallel.check(decoded[name], self.tolerance, rows.context))
            right = answers.right_answers(task, rows, decoded[name])
            scores[name] = answers.score(right, np.asarray(rows.weights), whole)
        largest = max(differences, key=lambda each: each.relative)
        return OnRows(rows, decoded, scores, int(whole.max()) + 1, largest, self._costs(decoder, given))

    def on_tokens(self, tokens: Int[np.ndarray, " given"], new: int) -> OnTokens:
        """Continues given tokens by `new` tokens; all given tokens but the last are prefilled.

        Raises:
          DifferentError: decoding is not the parallel pass.
          ValueError: the model has no position for the last token, or needs a context; one line.
        """
        if self.run.task.context is not None:
            raise ValueError(
                f"rows of {type(self.run.task).__name__} have a context, which tokens do not give; decode rows."
            )
        given = len(tokens)
        own = np.arange(given - 1 + new) >= given
        row = np.pad(tokens, (0, new - 1))
        rows = Rows.given(row[None])._replace(own=jnp.asarray(own[None]))
        decoder = Decoder(self.model, rows, given - 1, self.temperature)
        decoded = decoder(rows, jax.random.key(self.seed))
        difference = Parallel(self.model).check(decoded, self.tolerance)
        return OnTokens(decoded, given, difference, self._costs(decoder, rows))

    def _costs(self, decoder: Decoder, rows: Rows) -> Costs:
        seconds = measures.take_turns({"": (decoder, rows)}, jax.random.key(self.seed))[""]
        count, length = rows.tokens.shape
        return Costs(seconds, measures.kept(self.model, self.run, length), count, decoder.prompt, length)


def prompt_of(rows: Batch) -> int:
    """Returns how many tokens of rows are prefilled: those before the first answer of any row, at most half a row."""
    asked = np.asarray(rows.positions)[np.asarray(rows.weights) > 0]
    return int(min(asked.min(), rows.inputs.shape[1] // 2))
