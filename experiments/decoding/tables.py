"""The results of decoding, as text."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from experiments.decoding.decoder import Decoded
from experiments.decoding.measures import REPEATS
from experiments.decoding.parallel import Difference
from experiments.decoding.session import OWN, RIGHT, Costs, OnRows, OnTokens
from experiments.reporting.text import aligned, human, plural
from experiments.tasks.base import Task

_MOST_LINES = 64  # of one row


class Listing(NamedTuple):
    """How answers are listed."""

    task: Task
    top: int  # likeliest tokens at each place
    temperature: float  # of their probabilities; 0 counts as 1


def check_text(difference: Difference, tolerance: float) -> str:
    """Says how close decoding is to the parallel pass."""
    return (
        f"decoding is the parallel pass: logits differ by at most {difference.largest:.2g}, {difference.relative:.2g} "
        f"of the largest; the tolerance is {tolerance:g}"
    )


def scores_text(found: OnRows) -> str:
    """Returns accuracies with the right answers read afterwards, and with the model's own."""
    lines = [["read after an answer", "tokens right", "whole answers right"]]
    lines += [[name, f"{each.tokens:.3f}", f"{each.whole:.3f}"] for name, each in found.scores.items()]
    answers = plural(int((np.asarray(found.rows.weights) > 0).sum()), "token")
    text = f"{aligned(lines)}\n{answers} in {plural(found.whole, 'whole answer')}"
    if OWN not in found.scores:
        text += "; rows of this task do not go on with their answers"
    return text


def row_text(found: OnRows, row: int, listing: Listing) -> str:
    """Returns a line for each answer of a row, with the model's own answers read where rows continue with them."""
    name = OWN if OWN in found.decoded else RIGHT
    rows, decoded = found.rows, found.decoded[name]
    asked = np.flatnonzero(np.asarray(rows.weights[row]) > 0)
    places = np.asarray(rows.positions[row])[asked]
    targets = dict(zip(places.tolist(), np.asarray(rows.targets[row])[asked].tolist(), strict=True))
    lines = _lines(decoded, row, sorted(targets), targets, listing)
    return f"row {row}, {name} read\n{lines}"


def tokens_text(found: OnTokens, listing: Listing) -> str:
    """Returns what was given, what was generated, and a line for each generated token."""
    read, said = np.asarray(found.decoded.tokens[0]), np.asarray(found.decoded.answers[0])
    given = " ".join(listing.task.token_text(int(token)) for token in read[: found.given])
    new = " ".join(listing.task.token_text(int(token)) for token in said[found.given - 1 :])
    places = range(found.given - 1, len(said))
    return f"given      {given}\ngenerated  {new}\n\n{_lines(found.decoded, 0, places, None, listing)}"


def costs_text(costs: Costs) -> str:
    """Returns the time of a token, and the state of a row, layer by layer."""
    behind = costs.length - costs.prompt
    lines = [["time", "tokens", "of all rows", "of a token"]]
    if costs.prompt:
        lines.append(_timing("prefill", costs.prompt, costs.seconds.prefill, costs.rows))
    lines.append(_timing("one by one", behind, costs.seconds.step * behind, costs.rows))
    note = f"fastest of {REPEATS} warm calls on {plural(costs.rows, 'row')} at once; compilation is left out"
    return f"{aligned(lines)}\n{note}\n\n{_state(costs)}"


def _timing(name: str, tokens: int, seconds: float, rows: int) -> list[str]:
    return [name, str(tokens), _time(seconds), _time(seconds / tokens / rows)]


def _time(seconds: float) -> str:
    return f"{human(1e3 * seconds)} ms" if seconds >= 1e-3 else f"{human(1e6 * seconds)} us"


def _state(costs: Costs) -> str:
    total = ("in all", "", sum(each.bytes for each in costs.kept), sum(each.grows for each in costs.kept))
    lines = [["state of a row", "mixer", "bytes", "each token adds"]]
    lines += [[name, mixer, human(size, "B"), human(grows, "B")] for name, mixer, size, grows in (*costs.kept, total)]
    note = f"caches are made for {costs.length} tokens; those of {plural(costs.rows, 'row')} take"
    return f"{aligned(lines, left=2)}\n{note} {human(total[2] * costs.rows, 'B')}"


def _lines(decoded: Decoded, row: int, places: Sequence[int], targets: dict[int, int] | None, listing: Listing) -> str:
    """Returns a line for each place; `targets` are the right answers, if there are any."""
    task, top, temperature = listing
    logits = np.asarray(decoded.logits[row])
    shares = np.asarray(jax.nn.softmax(logits / (temperature or 1), axis=-1))
    read, said = np.asarray(decoded.tokens[row]), np.asarray(decoded.answers[row])
    lines = [["position", "reads", *([] if targets is None else ["right"]), "answer", f"likeliest {top}"]]
    for place in places[:_MOST_LINES]:
        likeliest = np.argsort(-shares[place], kind="stable")[:top]
        best = "  ".join(f"{task.token_text(int(token))} {shares[place, token]:.2f}" for token in likeliest)
        tokens = [read[place], *([] if targets is None else [targets[place]]), said[place]]
        lines.append([str(place), *(task.token_text(int(token)) for token in tokens), best])
    more = f"\n... and {len(places) - _MOST_LINES} more" if len(places) > _MOST_LINES else ""
    return aligned(lines, left=len(lines[0])) + more
