"""What every registered task must keep. A new task adds its cases to the table, and is checked like all others."""

import collections
import functools
import hashlib

import jax
import numpy as np
import pytest

from attention_variants import specs
from experiments.tasks.base import LARGEST_SIZE, Batch, Task
from experiments.tasks.registry import TASKS, make_task
from tests.experiments.tasks import shortcuts

GUESSES, UNSEEN = shortcuts.GUESSES, shortcuts.UNSEEN

ROWS = 2000

# Spec -> digest of ROWS rows from key 7, the same on every version of jax. New rows need a new `version` of the task.
CASES = {
    "mqar:length=22,num_pairs=5,vocab_size=29": "c3d0c3c8eff59d16",
    "mqar:length=26,num_pairs=3,vocab_size=8191,random_fillers=true,power=1": "0bdda2360b8228b4",
    "mqar:mixture=14x3*2/22x5/10x1,vocab_size=37": "9ce634782fbe1a6a",
    "selective_copying:length=23,num_tokens=5,vocab_size=11": "4bef0901913e38f2",
    "induction:length=19,vocab_size=7": "812d0606488d20b1",
}
every_case = pytest.mark.parametrize("spec", CASES)

TOO_HARD = {
    "mqar:length=14": "at least 4 times `num_pairs`",
    "mqar:length=23,num_pairs=5": "must be even",
    "mqar:length=66": "`vocab_size` must be at least `length`",
    "mqar:num_pairs=0": "`num_pairs` must be an integer >= 1",
    "mqar:length=6e1": "`length` must be an integer",
    "mqar:power=nan": "`power` must be a finite number",
    "mqar:power=-1": "`power` must be a number in",
    "mqar:vocab_size=99999999999": f"at most {LARGEST_SIZE}",
    "mqar:random_fillers=maybe": "must be true or false",
    "mqar:mixture=64x4/": "must look like",
    "mqar:mixture=64x4*-1": "must look like",
    "mqar:mixture=64x4*0": "must look like",
    "mqar:mixture=64x4/30x8": "at least 4 times `num_pairs`",
    "mqar:mixture=62x4,length=32": "one or the other",
    "mqar:lenght=64": "nearest first: length",
    "selective_copying:length=32": "at least 2 * `num_tokens` + 1 = 33; got 32",
    "selective_copying:vocab_size=3": "`vocab_size` must be an integer >= 4",
    "induction:length=2": "`length` must be an integer >= 3",
    "inducton": "nearest first: induction",
}


ROLES = ("key", "value", "query", "filler", "marker", "answer")
TRACES: collections.Counter[Task] = collections.Counter()


@functools.partial(jax.jit, static_argnums=0)
def sample(task: Task, rng: jax.Array) -> Batch:
    TRACES[task] += 1
    return task.sample(rng, ROWS)


@functools.cache
def draw(spec: str) -> tuple[Task, Batch]:
    task = make_task(spec)
    return task, jax.tree.map(np.asarray, sample(task, jax.random.key(7)))


def accuracy(batch: Batch, answers: np.ndarray) -> float:
    return float(np.average(answers == batch.targets, weights=batch.weights))


def test_every_task_has_a_case():
    assert {specs.parse_spec(spec)[0] for spec in CASES} == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_defaults_are_valid_and_described(name: str):
    task = make_task(name)
    assert task.version >= 1 and task.summary and "\n" not in task.summary
    assert hash(task) == hash(make_task(name))


@every_case
def test_batch_is_well_formed(spec: str):
    task, batch = draw(spec)
    rows, scored = batch.targets.shape
    assert batch.inputs.shape == (rows, task.input_length) and rows == ROWS
    assert batch.positions.shape == batch.weights.shape == (rows, scored)
    assert batch.evidence.shape[:2] == (rows, scored)
    assert all(value.shape == (rows, scored) and value.dtype == np.int32 for value in batch.slices.values())
    integers = (batch.inputs, batch.targets, batch.positions, batch.evidence)
    assert {array.dtype for array in integers} == {np.dtype("int32")}
    for tokens in (batch.inputs, batch.targets):
        assert tokens.min() >= 0 and tokens.max() < task.vocab_size
    assert set(np.unique(batch.weights)) <= {0.0, 1.0} and batch.weights.any(axis=1).all()
    scored_at = batch.weights > 0
    evidence, positions = batch.evidence[scored_at], batch.positions[scored_at]
    assert (evidence >= 0).any(axis=1).all() and (evidence < positions[:, None]).all()
    assert (batch.evidence[~scored_at] == -1).all()
    np.testing.assert_array_equal(batch.slices["distance"][scored_at], positions - evidence.max(axis=1))


@every_case
def test_solver_scores_one(spec: str):
    task, batch = draw(spec)
    assert accuracy(batch, task.solve(batch)) == 1.0


@every_case
def test_answers_depend_on_their_evidence_and_on_no_other_value_or_filler(spec: str):
    task, batch = draw(spec)
    batch = jax.tree.map(lambda array: array[:29], batch)
    described = [task.describe_row(batch, row) for row in range(29)]
    roles = np.array([[role for _, role in row] for row in described])
    rng, counted, decisive = np.random.default_rng(0), 0, 0
    for column in range(task.input_length):
        inputs = batch.inputs.copy()
        for row in range(29):
            # Another token of the same role keeps the row a row of this task.
            same_role = np.setdiff1d(batch.inputs[roles == roles[row, column]], batch.inputs[row, column])
            if roles[row, column] in ("value", "filler") and same_role.size:
                inputs[row, column] = rng.choice(same_role)
        changed = inputs[:, column] != batch.inputs[:, column]
        decides = (batch.evidence == column).any(axis=2) & changed[:, None]
        moved = (task.solve(batch._replace(inputs=inputs)) != batch.targets) & (batch.weights > 0)
        assert not (moved & ~decides).any(), f"a change at {column} moved an answer that does not depend on it"
        assert (moved == decides).all() or not task.every_change_counts
        counted, decisive = counted + int(moved.sum()), decisive + int(decides.sum())
    assert decisive > 0 and counted > decisive / 10
    assert (roles == "value").any() and np.isin(roles, ROLES).all()


@every_case
def test_same_seed_same_bits(spec: str):
    _, batch = draw(spec)
    digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(batch)))
    assert digest.hexdigest()[:16] == CASES[spec]


@every_case
def test_splits_share_no_stream_and_equal_tasks_compile_once(spec: str):
    batches = []
    for split in range(3):
        for step in range(2):
            rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), split), step)
            batches.append(np.asarray(sample(make_task(spec), rng).inputs))
    for index, one in enumerate(batches):
        for other in batches[:index]:
            assert (one == other).all(axis=1).mean() < 0.01  # the same stream would give 1; chance repeats a short row
    assert TRACES[make_task(spec)] == 1


@every_case
def test_best_guess_without_the_evidence(spec: str):
    """Guessing among what the rest of the row leaves open is right at the guess rate."""
    task, batch = draw(spec)
    batch = jax.tree.map(lambda array: array[:500], batch)
    rng, name = np.random.default_rng(3), specs.parse_spec(spec)[0]
    guesses, rates = np.zeros_like(batch.targets), task.guess_rate(batch)
    for row, column in np.argwhere(batch.weights > 0):
        allowed = UNSEEN[name](task, batch, row, column)
        guesses[row, column] = rng.choice(allowed)
        assert rates[row, column] == pytest.approx(1 / len(allowed))
    rate = float(np.average(rates, weights=batch.weights))
    assert abs(accuracy(batch, guesses) - rate) < 4 * np.sqrt(rate / batch.weights.sum())


@every_case
def test_floors_are_what_their_shortcuts_score(spec: str):
    task, batch = draw(spec)
    rng = np.random.default_rng(5)
    for shortcut, floor in task.floors().items():
        guess = GUESSES[specs.parse_spec(spec)[0], shortcut]
        guesses = np.stack([guess(task, batch, row, rng) for row in range(ROWS)])
        excess = (batch.weights * ((guesses == batch.targets) - floor)).sum(axis=1)  # targets of one row go together
        assert abs(excess.sum()) < 4 * np.sqrt(np.square(excess).sum()), shortcut


@every_case
def test_at_length(spec: str):
    task = make_task(spec)
    longer = task.at_length(28)
    assert type(longer) is type(task) and longer.vocab_size == task.vocab_size
    one, other = (jax.eval_shape(lambda rng, of=of: of.sample(rng, 3), jax.random.key(0)) for of in (task, longer))
    assert other.inputs.shape == (3, 28) and other.targets.shape == one.targets.shape


@pytest.mark.parametrize("spec", TOO_HARD)
def test_impossible_tasks_are_refused_in_one_line(spec: str):
    with pytest.raises(specs.SpecError) as caught:
        make_task(spec)
    assert TOO_HARD[spec] in str(caught.value) and "\n" not in str(caught.value)
