"""The most that a model can score without looking at a row's content: a search for shortcuts that no floor may miss.

Where a target stands decides what is answered: its rank among the targets of its row, its position, or both. A table
holds, for each such place, either an answer or a position of the row (or of the context) to copy from. Where the place
decides the evidence, to copy from there is the task; to copy from anywhere else is a shortcut all the same.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from experiments.tasks.base import Batch, Task
from tests.experiments.tasks.programs import ROWS, draw

LARGEST = 2**25  # comparisons at a time


def rank(batch: Batch) -> np.ndarray:
    """Counts the targets of the row that are read before."""
    positions = np.where(batch.weights > 0, batch.positions, np.iinfo(np.int32).max)
    return np.argsort(np.argsort(positions, axis=1, kind="stable"), axis=1, kind="stable")


Place = Callable[[Batch], np.ndarray]
PLACES: dict[str, Place] = {
    "rank": rank,
    "position": lambda batch: batch.positions,
    "rank and position": lambda batch: rank(batch) * batch.inputs.shape[1] + batch.positions,
}


@dataclasses.dataclass(frozen=True)
class Table:
    """What to answer at each place."""

    place: Place
    answers: np.ndarray
    sources: np.ndarray  # what to copy, as a column of `_readable`; -1 for the answer
    ahead: bool = False  # whether it copies what is read later, and nothing else

    def guesses(self, batch: Batch) -> np.ndarray:
        """Returns the table's answers to all targets, -1 where it copies what is not read yet."""
        places = np.minimum(self.place(batch), len(self.answers) - 1)
        if self.answers.ndim > 1:  # distributions, which no token is a copy of
            return self.answers[places]
        source = self.sources[places]
        copied = np.take_along_axis(_readable(batch), np.maximum(source, 0), axis=1)
        copied = np.where(_read(batch, batch.positions, np.maximum(source, 0)) != self.ahead, copied, -1)
        return np.where(source < 0, self.answers[places], copied)


def fit(task: Task, batch: Batch, place: Place, *, copies: bool = True, ahead: bool = False) -> Table:
    """Returns the table that answers most targets of `batch`; `ahead` copies what is read later, and nothing else."""
    places, scored = place(batch), batch.weights > 0
    count = int(places[scored].max()) + 1
    answers, answered = _best_answers(task, places[scored], _right_answers(batch)[scored], count)
    if not copies or task.distributions:
        return Table(place, answers, np.full(count, -1))
    copied = np.zeros((count, _readable(batch).shape[1]), int)
    for rows in _in_pieces(batch):
        part = jax.tree.map(lambda array, rows=rows: array[rows], batch)
        for column in range(scored.shape[1]):
            _count_copies(task, part, places[rows, column], column, copied, ahead)
    if not ahead and copying_is_the_task(batch, places):
        evidence = np.full(count, -1)
        evidence[places[scored]] = batch.evidence[scored][:, 0]
        copied[evidence[:, None] == _position_of(batch, np.arange(copied.shape[1]))] = 0
    return Table(place, answers, np.where(copied.max(axis=1) > answered, copied.argmax(axis=1), -1), ahead)


def copying_is_the_task(batch: Batch, places: np.ndarray) -> bool:
    """Whether the place alone decides which position is evidence, so that to copy from there is what is asked."""
    scored = batch.weights > 0
    evidence, there = batch.evidence[scored], places[scored]
    order = np.argsort(there, kind="stable")
    same_place = np.diff(there[order]) == 0
    moves = (np.diff(evidence[order], axis=0) != 0).any(axis=1)
    return evidence.shape[1] == 1 and not (same_place & moves).any()


def _right_answers(batch: Batch) -> np.ndarray:
    """Returns all right answers [batch, scored, right] to each target, -1 padding; a distribution has one more axis."""
    also = [] if batch.also_right is None else [batch.also_right]
    return np.concatenate([batch.targets[:, :, None], *also], axis=2)


def _best_answers(task: Task, places: np.ndarray, answers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the likeliest answer at each place, and how often it is right."""
    if task.tolerance is None:
        counts = np.zeros((count, task.vocab_size), int)
        for right in answers.T:
            np.add.at(counts, (places[right >= 0], right[right >= 0]), 1)
        return counts.argmax(axis=1), counts.max(axis=1)
    best, right = np.zeros((count, *answers.shape[2:])), np.zeros(count, int)
    for place in np.unique(places):
        there = answers[places == place, 0]
        guesses = there[:15] if task.distributions else np.quantile(there, np.linspace(0.01, 0.99, 99))
        counts = task.is_right(there[None], guesses[:, None]).sum(axis=1)
        best[place], right[place] = guesses[counts.argmax()], counts.max()
    return best, right


def _count_copies(task: Task, batch: Batch, places: np.ndarray, column: int, copied: np.ndarray, ahead: bool) -> None:
    """Adds how often each thing that has been read, or is read later, is the answer in a column of targets."""
    rows = np.flatnonzero(batch.weights[:, column] > 0)
    rows = rows[np.argsort(places[rows], kind="stable")]
    if len(rows):
        every = _right_answers(batch)[rows, column].T
        right = functools.reduce(np.logical_or, (task.is_right(_readable(batch)[rows], one[:, None]) for one in every))
        right &= _read(batch, batch.positions[rows, column, None], np.arange(right.shape[1])[None]) != ahead
        there, starts = np.unique(places[rows], return_index=True)
        copied[there] += np.add.reduceat(right, starts, axis=0, dtype=int)


def _readable(batch: Batch) -> np.ndarray:
    """Returns what may be copied, by row: its tokens or numbers, then the tokens of its context."""
    parts = [batch.inputs.reshape(len(batch.inputs), -1)]
    if batch.context is not None and batch.context.ndim == 2:
        parts.append(batch.context)
    return np.concatenate(parts, axis=1)


def _position_of(batch: Batch, columns: np.ndarray) -> np.ndarray:
    """Returns the positions of columns of `_readable`, as `Batch.evidence` counts them: a context comes last."""
    length, size = batch.inputs.shape[1], batch.inputs[0, 0].size
    return np.where(columns < length * size, columns // size, columns - length * size + length)


def _read(batch: Batch, at: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns whether a model at these positions has read these columns of `_readable`; a context it reads before."""
    position = _position_of(batch, columns)
    return (position <= at) | (position >= batch.inputs.shape[1])


def _in_pieces(batch: Batch) -> Iterator[slice]:
    rows = max(1, LARGEST // _readable(batch).shape[1])
    return (slice(start, start + rows) for start in range(0, len(batch.targets), rows))


def sample(task: Task, rows: int, seed: int) -> Batch:
    """Draws rows, 2000 at a time."""
    rngs = (jax.random.fold_in(jax.random.key(seed), step) for step in range(rows // ROWS))
    batches = [jax.tree.map(np.asarray, draw(task, rng)) for rng in rngs]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)


def score(task: Task, batch: Batch, table: Table) -> tuple[float, float]:
    """Returns the accuracy of a table and its standard error; the targets of one row go together."""
    right = batch.weights * task.correct(table.guesses(batch), batch)
    accuracy = right.sum() / batch.weights.sum()
    excess = (right - accuracy * batch.weights).sum(axis=1)
    return float(accuracy), float(np.sqrt(np.square(excess).sum()) / batch.weights.sum())


def weak_floors(task: Task, rows: int) -> list[str]:
    """Returns a line for each kind of place by which a table beats the task's best floor.

    The table is fitted on `rows` rows and scored on as many others.
    """
    train, test = (sample(task, rows, seed) for seed in (11, 12))
    best, shortcut = max((floor, name) for name, floor in task.floors().items())
    floor = best, f"the best floor is {best:.4f} ({shortcut})"
    rate = float(np.average(task.guess_rate(test), weights=test.weights))
    weak = []
    for kind, place in PLACES.items():
        table = fit(task, train, place)
        tables = {f"by {kind} alone": (table, *floor)}
        blind = dataclasses.replace(table, sources=np.full_like(table.sources, -1))
        guess = f"the guess rate is {rate:.4f}, to which ceilings go down"
        tables[f"by {kind}, without a look at the row"] = blind, rate, guess
        if not task.answers_follow:
            what = f"by {kind}, from what is read later, though answers_follow is False"
            tables[what] = fit(task, train, place, ahead=True), *floor
        for what, (table, most, against) in tables.items():
            accuracy, error = score(task, test, table)
            if accuracy > most + 4 * error + 0.002:  # some floors are estimates themselves
                weak.append(f"{what}: {accuracy:.4f} +- {error:.4f} ({_shown(kind, test, table)}); {against}")
    return weak


def _shown(kind: str, batch: Batch, table: Table) -> str:
    """Returns what the table does at the four most frequent places."""
    places, counts = np.unique(table.place(batch)[batch.weights > 0], return_counts=True)
    shown = []
    for place in sorted(places[np.argsort(-counts)][:4].tolist()):
        row, column = np.argwhere((table.place(batch) == place) & (batch.weights > 0))[0]
        name = {"rank": rank(batch)[row, column], "position": batch.positions[row, column]}
        where = ", ".join(f"{word} {number}" for word, number in name.items() if word in kind)
        source, answer = (values[min(place, len(values) - 1)] for values in (table.sources, table.answers))
        shown.append(f"{where}: {f'copy {source}' if source >= 0 else f'answer {answer}'}")
    return "; ".join(shown)
