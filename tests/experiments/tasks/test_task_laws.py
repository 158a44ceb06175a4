"""What every registered task must keep. A new task adds its row to `task_cases`, and is checked like all others."""

import functools
import hashlib
import json
import re
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from scipy import special

from attention_variants import specs
from experiments.tasks.base import Batch, Task
from experiments.tasks.registry import TASKS, make_task, task_facts
from tests.experiments.tasks.all_shortcuts import COMMON, GUESSES, UNSEEN
from tests.experiments.tasks.programs import ROWS, TRACES, draw
from tests.experiments.tasks.task_cases import CASES, TOO_HARD

FIRST = {specs.parse_spec(spec)[0]: spec for spec in reversed(CASES)}.values()  # of each task, in the quick part
every_case = pytest.mark.parametrize(
    "spec", [pytest.param(spec, marks=() if spec in FIRST else pytest.mark.slow) for spec in CASES]
)

ROLES = ("key", "value", "query", "filler", "marker", "answer")


@functools.cache
def drawn(spec: str) -> tuple[Task, Batch]:
    task = make_task(spec)
    return task, jax.tree.map(np.asarray, draw(task, jax.random.key(7)))


def accuracy(task: Task, batch: Batch, answers: np.ndarray) -> float:
    return float(np.average(task.correct(answers, batch), weights=batch.weights))


def decided(task: Task, batch: Batch) -> np.ndarray:
    """Weights of the targets that the row decides."""
    return batch.weights * (1 if task.known is None else batch.slices[task.known])


def assert_well_formed(array: np.ndarray, shape: tuple[int, ...], vocab_size: int) -> None:
    """Tokens below `vocab_size`; where it is 0, numbers."""
    assert array.shape == shape
    if vocab_size:
        assert array.dtype == np.int32 and array.min() >= 0 and array.max() < vocab_size
    else:
        assert array.dtype == np.float32 and np.isfinite(array).all()


def test_every_task_has_a_case():
    assert {specs.parse_spec(spec)[0] for spec in CASES} == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_defaults_are_valid_and_described(name: str):
    task = make_task(name)
    assert task.version >= 1 and task.summary and "\n" not in task.summary
    assert hash(task) == hash(make_task(name))


@every_case
def test_batch_is_well_formed(spec: str):
    task, batch = drawn(spec)
    rows, scored = batch.targets.shape[:2]
    channels = (task.input_channels,) if task.input_channels else ()
    assert_well_formed(batch.inputs, (ROWS, task.input_length, *channels), 0 if channels else task.vocab_size)
    shape = (ROWS, scored, task.vocab_size) if task.distributions else (ROWS, scored)
    assert_well_formed(batch.targets, shape, task.vocab_size if task.tolerance is None else 0)
    assert (task.tolerance is None) == (not task.loss_floors())
    assert task.tolerance is None or task.distributions or task.vocab_size == 1
    if task.distributions:
        assert batch.targets.min() >= 0
        np.testing.assert_allclose(batch.targets.sum(axis=2), 1, atol=1e-5)
    assert batch.positions.shape == batch.weights.shape == (rows, scored)
    assert batch.evidence.shape[:2] == (rows, scored)
    assert all(value.shape == (rows, scored) and value.dtype == np.int32 for value in batch.slices.values())
    assert batch.positions.dtype == batch.evidence.dtype == np.int32
    if batch.also_right is not None:
        assert batch.also_right.shape[:2] == (rows, scored) and batch.also_right.dtype == np.int32
        assert batch.also_right.min() == -1 and batch.also_right.max() < task.vocab_size and task.tolerance is None
        assert (batch.also_right[batch.weights == 0] == -1).all()
        assert (batch.also_right != batch.targets[..., None]).all()
    assert set(np.unique(batch.weights)) <= {0.0, 1.0} and batch.weights.any(axis=1).all()
    scored_at = batch.weights > 0
    evidence, positions = batch.evidence[scored_at], batch.positions[scored_at]
    in_row = evidence < task.input_length
    latest = positions - (not task.reads_its_evidence)
    assert (evidence >= 0).any(axis=1).all() and (evidence <= latest[:, None])[in_row].all()
    assert (batch.evidence[~scored_at] == -1).all()
    places = np.sort(np.where(scored_at, batch.positions, -1 - np.arange(scored)), axis=1)
    assert (np.diff(places) == 0).all() if task.one_vector else (np.diff(places) > 0).all()
    if task.context is None:
        assert batch.context is None and in_row.all()
        np.testing.assert_array_equal(batch.slices["distance"][scored_at], positions - evidence.max(axis=1))
    else:  # places of two sequences are at no distance
        shape = (ROWS, task.context.length, task.context.channels)
        assert_well_formed(batch.context, shape if task.context.channels else shape[:2], task.context.vocab_size)
        assert bool(task.context.vocab_size) != bool(task.context.channels) and "distance" not in batch.slices
        assert evidence.max() < task.input_length + task.context.length


@every_case
def test_solver_scores_one(spec: str):
    task, batch = drawn(spec)
    batch = batch._replace(weights=decided(task, batch))
    assert accuracy(task, batch, task.solve(batch)) == 1.0


def one_change(batch: Batch, roles: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[int, Batch, np.ndarray]]:
    """Yields each position, the batch with something else there, and the rows in which it is."""
    start = 0
    for part in ("inputs", "context") if batch.context is not None else ("inputs",):
        array = getattr(batch, part)
        parts_roles = roles[:, start : start + array.shape[1]]
        for column in range(array.shape[1]):
            others = array.copy()
            for row, role in enumerate(parts_roles[:, column]):
                # What has the same role elsewhere keeps the row a row of this task, unless it is what this row asks
                # for; keys change only where they are evidence, markers, the structure, never.
                is_evidence = role != "marker" and (batch.evidence[row] == start + column).any()
                if role in ("value", "filler") or is_evidence:
                    same_role = array[parts_roles == role]
                    same_role = same_role[(same_role != array[row, column]).reshape(len(same_role), -1).any(axis=1)]
                    if array.ndim == 2:
                        same_role = np.setdiff1d(same_role, array[row, parts_roles[row] == "query"])
                    others[row, column] = rng.choice(same_role) if len(same_role) else array[row, column]
            changed = (others != array).reshape(len(array), -1).any(axis=1)
            yield start + column, batch._replace(**{part: others}), changed
        start += array.shape[1]


@every_case
def test_answers_depend_on_their_evidence_and_on_no_other_value_or_filler(spec: str):
    task, batch = drawn(spec)
    batch = jax.tree.map(lambda array: array[:29], batch)
    described = [[*task.describe_row(batch, row), *task.describe_context(batch, row)] for row in range(29)]
    roles = np.array([[role for _, role in row] for row in described])
    assert roles.shape == (29, task.input_length + (task.context.length if task.context else 0))
    assert set(roles.flat) <= set(ROLES), "roles in describe_row"
    answers, counted, decisive = task.solve(batch), 0, 0
    for position, other, changed in one_change(batch, roles, np.random.default_rng(0)):
        decides = (batch.evidence == position).any(axis=2) & changed[:, None]
        moved = (task.solve(other) != answers).reshape(*batch.weights.shape, -1).any(axis=2) & (
            decided(task, batch) > 0
        )
        assert not (moved & ~decides).any(), f"a change at {position} moved an answer that does not depend on it"
        idle = decides & ~moved
        assert not (task.every_change_counts and idle.any()), (
            f"a change of the evidence at {position} left the answer as it was, in rows {np.argwhere(idle)[:3, 0]}: "
            "where that is so, say every_change_counts = False"
        )
        counted, decisive = counted + int(moved.sum()), decisive + int(decides.sum())
    assert decisive > 0 and counted > decisive / (10 if task.every_change_counts else 100)  # one pixel of many


@every_case
def test_training_reads_where_answers_are_scored(spec: str):
    """A learned position at which only tests read would stay as it was drawn."""
    task, batch = drawn(spec)
    training = task.training_batch(batch)
    read, trained = (
        np.unique(np.argwhere(np.asarray(weights) > 0)[:, 0] * task.input_length + np.asarray(places)[weights > 0])
        for places, weights in ((batch.positions, batch.weights), (training.positions, training.weights))
    )
    assert np.isin(read, trained).all()


@every_case
def test_same_seed_same_bits(spec: str):
    _, batch = drawn(spec)
    digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(batch)))
    assert digest.hexdigest()[:16] == CASES[spec]


@every_case
def test_rows_do_not_depend_on_whether_jax_has_64_bits(spec: str):
    """Traced, as compiling takes longer: every random bit is drawn in 32, and every array that leaves is of 32."""
    task = make_task(spec)
    with jax.enable_x64(True):
        traced, batch = jax.make_jaxpr(lambda rng: task.sample(rng, 3), return_shape=True)(jax.random.key(7))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(batch)} <= {"int32", "float32"}
    draws = re.findall(r"random_bits\[bit_width=(\d+)", str(traced))
    assert draws and set(draws) <= {"8", "32"}


@pytest.mark.slow
@every_case
def test_splits_share_no_stream_and_equal_tasks_compile_once(spec: str):
    batches, traced_before = [], TRACES[make_task(spec)]
    for split in range(3):
        for step in range(2):
            rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), split), step)
            batch = draw(make_task(spec), rng)
            read = [batch.inputs] if batch.context is None else [batch.inputs, batch.context]
            batches.append(np.concatenate([np.reshape(part, (ROWS, -1)) for part in read], axis=1))
    for index, one in enumerate(batches):
        for other in batches[:index]:
            assert (one == other).all(axis=1).mean() < 0.01  # the same stream would give 1; chance repeats a short row
    assert TRACES[make_task(spec)] <= traced_before + 1 and TRACES[make_task(spec)] >= 1


def best_guesses(task: Task, answers: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the guesses that are right for the most of `answers`, and for what share of them they are."""
    if task.tolerance is None:
        guesses, counts = np.unique(answers, return_counts=True)
    else:
        guesses, counts = answers, task.is_right(answers[:, None], answers[None]).sum(axis=1)
    return guesses[counts == counts.max()], counts.max() / len(answers)


@pytest.mark.slow
@every_case
def test_best_guess_without_the_evidence(spec: str):
    """Guessing the likeliest of what the rest of the row leaves open is right at the guess rate."""
    task, batch = drawn(spec)
    batch = jax.tree.map(lambda array: array[:500], batch)
    rng, name = np.random.default_rng(3), specs.parse_spec(spec)[0]
    guesses, rates = np.zeros_like(batch.targets), task.guess_rate(batch)
    assert rates.shape == batch.weights.shape and np.average(rates, weights=batch.weights) > 0
    if name not in UNSEEN:
        allowed, found = {1.0, max(task.floors().values())}, set(rates[batch.weights > 0].tolist())
        assert found <= allowed, "without a twin in UNSEEN it is the best shortcut's score, or 1: no bound at all"
        return
    for row, column in np.argwhere(batch.weights > 0):
        answers = np.asarray(UNSEEN[name](task, batch, row, column))
        best, rate = best_guesses(task, answers)
        guesses[row, column] = rng.choice(best)
        assert rates[row, column] == pytest.approx(rate, abs=0 if task.tolerance is None else 1 / len(answers))
    rate = float(np.average(rates, weights=batch.weights))
    assert abs(accuracy(task, batch, guesses) - rate) < 4 * np.sqrt(rate / batch.weights.sum())


def squared(guess: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.square(guess - target)


def divergence(guess: np.ndarray, target: np.ndarray) -> np.ndarray:
    return special.rel_entr(target, guess).sum(axis=-1)


@pytest.mark.slow
@every_case
def test_floors_are_what_their_shortcuts_score(spec: str):
    task, batch = drawn(spec)
    rng, name = np.random.default_rng(5), specs.parse_spec(spec)[0]
    divergences = divergence if task.distributions else squared
    scores = [
        (task.floors(), task.correct),
        (task.loss_floors(), lambda guess, batch: divergences(guess, batch.targets)),
    ]
    for floors, score in scores:
        for shortcut, floor in floors.items():
            guess = GUESSES.get((name, shortcut)) or COMMON.get(shortcut)
            assert guess is not None, f"add a NumPy twin of {(name, shortcut)} to GUESSES in its family's shortcuts.py"
            guesses = np.stack([guess(task, batch, row, rng) for row in range(ROWS)])
            excess = batch.weights * (score(guesses, batch) - floor)
            excess = excess.sum(axis=1)  # a row's targets go together
            error = 4 * np.sqrt(np.square(excess).sum()) + 1e-6
            found, error = (float(each / batch.weights.sum()) for each in (excess.sum(), error))
            assert abs(found) <= error, (
                f"{shortcut}: floors() says {floor:.4f}; it scores {floor + found:.4f} +- {error:.4f}"
            )


def at_length_or_next(task: Task, length: int) -> Task:
    """Returns the task at the first length from `length` on that it has."""
    while True:
        try:
            return task.at_length(length)
        except ValueError as error:
            assert "\n" not in str(error) and length < 32
            length += 1


@every_case
def test_at_length(spec: str):
    task = make_task(spec)
    longer = at_length_or_next(task, 28)
    assert longer.train_length >= 28 and task.train_length <= task.input_length
    assert type(longer) is type(task) and longer.vocab_size == task.vocab_size
    one, other = (jax.eval_shape(lambda rng, of=of: of.sample(rng, 3), jax.random.key(0)) for of in (task, longer))
    assert other.inputs.shape[:2] == (3, longer.input_length)
    assert longer.input_length >= 28  # a string, then its answer
    assert other.targets.shape[1] >= one.targets.shape[1] and other.inputs.shape[2:] == one.inputs.shape[2:]
    assert longer.context is None or longer.context[1:] == task.context[1:]


@every_case
def test_every_slice_has_a_label_and_facts_can_be_stored(spec: str):
    task, batch = drawn(spec)
    facts = task_facts(task)
    assert set(batch.slices) <= set(facts["slice_labels"]) and all(facts["slice_labels"].values())
    assert json.loads(json.dumps(facts)) == facts
    expected = ["name", "fields", "train_length", "tolerance", "distributions", "loss_floor", "slice_labels"]
    assert list(facts) == expected
    assert make_task(facts["name"], **facts["fields"]) == task
    assert facts["train_length"] == task.train_length > 0 and facts["tolerance"] == task.tolerance
    assert (facts["loss_floor"] is None) == (task.tolerance is None)


@pytest.mark.parametrize("name", TASKS)
def test_every_label_is_of_a_slice(name: str):
    emitted = {
        slice_name for spec in CASES if specs.parse_spec(spec)[0] == name for slice_name in drawn(spec)[1].slices
    }
    assert set(TASKS[name].slice_labels) == emitted


@pytest.mark.parametrize("spec", TOO_HARD)
def test_impossible_tasks_are_refused_in_one_line(spec: str):
    with pytest.raises(specs.SpecError) as caught:
        make_task(spec)
    assert TOO_HARD[spec] in str(caught.value) and "\n" not in str(caught.value)
