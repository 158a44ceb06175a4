"""Tokens as people write them."""

import re

import numpy as np
from jaxtyping import Int

from attention_variants import specs
from experiments.tasks.base import Task


def read_tokens(text: str, task: Task) -> Int[np.ndarray, " tokens"]:
    """Returns the ids of tokens separated by blanks or commas: each as the task prints it, or else an id.

    Raises:
      ValueError: there are none, or one is not a token of the task; one line, nearest tokens first.
    """
    words = [word for word in re.split(r"[\s,]+", text) if word]
    if not words:
        raise ValueError("--tokens names no token; write some as the task prints them, or ids.")
    known = {task.token_text(token): token for token in reversed(range(task.vocab_size))}
    return np.array([_token(word, known, task.vocab_size) for word in words], np.int32)


def _token(word: str, known: dict[str, int], vocab_size: int) -> int:
    if word in known:
        return known[word]
    if word.isdecimal() and int(word) < vocab_size:
        return int(word)
    nearest = ", ".join(specs.nearest_first(word, known)[:8])
    raise ValueError(f"--tokens: {word!r} is no token; they are ids below {vocab_size}, or nearest first: {nearest}.")
