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
from tests.experiments.tasks import shortcuts, shortcuts_formal, shortcuts_recall

GUESSES = shortcuts.GUESSES | shortcuts_formal.GUESSES | shortcuts_recall.GUESSES
UNSEEN = shortcuts.UNSEEN | shortcuts_formal.UNSEEN | shortcuts_recall.UNSEEN

ROWS = 2000

# Spec -> digest of ROWS rows from key 7, the same on every version of jax. New rows need a new `version` of the task.
CASES = {
    "mqar:length=22,num_pairs=5,vocab_size=29": "c3d0c3c8eff59d16",
    "mqar:length=26,num_pairs=3,vocab_size=8191,random_fillers=true,power=1": "0bdda2360b8228b4",
    "mqar:mixture=14x3*2/22x5/10x1,vocab_size=37": "9ce634782fbe1a6a",
    "selective_copying:length=23,num_tokens=5,vocab_size=11": "4bef0901913e38f2",
    "induction:length=19,vocab_size=7": "812d0606488d20b1",
    "in_context_recall:length=22,vocab_size=11": "dfeb0ce88015030b",
    "noisy_recall:length=26,vocab_size=17,num_noise=6,noise=0.3": "e345f942e81c8d24",
    "fuzzy_recall:length=23,vocab_size=13,max_size=2": "7801eddec020b8b6",
    "fuzzy_recall:length=26,vocab_size=10,min_key_size=3": "14702bfa31309d26",
    "memorization:length=10,vocab_size=29,map_seed=3": "03b894145285ea33",
    "copying:length=22,vocab_size=7": "33f0a61413b17079",
    "reverse:length=26,vocab_size=7": "1ea8943100373013",
    "sorting:length=14,vocab_size=12": "156d2e14eefbfffe",
    "needle:length=23,vocab_size=22,distractors=5": "75e8d3fdd98db8a9",
    "needle:length=28,vocab_size=25,num_keys=3,num_values=2,num_queries=2,vary_distractors=true": "2b4c8174556f0f31",
    "variable_tracking:length=26,vocab_size=29,num_chains=3": "6a5db0f47bb5519e",
    "variable_tracking:length=23,vocab_size=31,num_chains=3,vary_hops=true": "26d81979c2cf0517",
    "variable_tracking:length=25,vocab_size=23,hops=3,num_chains=2,scratchpad=true,vary_hops=true": "f49f3f049edab101",
    "common_words:length=23,vocab_size=17,common_count=3": "aa3ec4d08b42b87c",
    "common_words:length=26,vocab_size=11,num_common=2,common_count=4,rare_count=3": "9d7a238fa9783c75",
    "mqar_forgetting:length=25,vocab_size=29,num_updates=3": "bc83f56c239737d2",
    "mqar_compositional:length=28,vocab_size=29,random_fillers=true": "680de7915aff7dbb",
    "parity:min_length=5,max_length=13": "8181d617cd767b86",
    "even_pairs:min_length=7,max_length=13": "402d74c316e29bdf",
    "cycle_navigation:min_length=4,max_length=13": "081c29a86d5de961",
    "modular_arithmetic:min_length=5,max_length=13": "02eb07e82e9d77f9",
    "modular_arithmetic_brackets:min_length=7,max_length=19": "1a7b2d0bee7cc311",
    "reverse_string:min_length=5,max_length=11,num_symbols=3": "848095cbeef83940",
    "duplicate_string:min_length=3,max_length=7,num_symbols=5": "f18e84eb1cce607c",
    "missing_duplicate:min_length=7,max_length=17": "0bdd8468339f3ac9",
    "odds_first:min_length=3,max_length=11,num_symbols=5": "58e5032b0f0a85a1",
    "bucket_sort:min_length=3,max_length=11": "c7d69b0270205b6a",
    "stack_manipulation:min_length=5,max_length=13": "767222356fb87a8c",
    "binary_addition:min_length=5,max_length=13": "f1a00e6b24886ea1",
    "dyck:length=23,num_types=5,max_depth=3": "dca78a0ac19ca057",
    "listops:min_length=5,max_length=23": "a70a2129e0cf373f",
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
    "in_context_recall:length=23": "must be even",
    "noisy_recall:vocab_size=19": "at least `num_noise` + 4 = 20; got 19",
    "noisy_recall:noise=1": "`noise` must be a number in [0.0, 0.99]",
    "fuzzy_recall:min_key_size=4": "at most `max_size` = 3; got 4",
    "fuzzy_recall:length=11": "at least 4 * `max_size` = 12; got 11",
    "fuzzy_recall:vocab_size=7": "at least 2 * `max_size` + 2 = 8; got 7",
    "memorization:length=7": "must be even",
    "copying:length=9": "must be even",
    "needle:num_queries=2": "at most `num_keys` = 1; got 2",
    "needle:length=9": "at least 10 for these needles and queries; got 9",
    "needle:distractors=31": "at least 99, to have that many distinct keys; got 96",
    "variable_tracking:num_chains=1": "`num_chains` must be an integer >= 2",
    "variable_tracking:length=25": "at least 26 for these chains; got 25",
    "variable_tracking:vocab_size=27": "at least 28 for 12 names; got 27",
    "common_words:rare_count=8": "`common_count` must be an integer >= 9",
    "common_words:length=28": "at least 29 for these words; got 28",
    "common_words:vocab_size=54": "at least 55 for 53 words; got 54",
    "mqar_forgetting:num_updates=0": "`num_updates` must be an integer >= 1",
    "mqar_forgetting:num_updates=5": "at most `num_pairs` = 4; got 5",
    "mqar_forgetting:length=19": "at least 20 for these pairs; got 19",
    "mqar_forgetting:vocab_size=9": "at least 2 * `num_pairs` + 2 = 10; got 9",
    "mqar_forgetting:vocab_size=10": "must leave at least 6 values; 10 leaves 5",
    "mqar_compositional:length=23": "at least 24 for these pairs; got 23",
    "mqar_compositional:grid_size=21": "at least 66 for this grid; got 64",
    "parity:min_length=0": "`min_length` must be an integer >= 1",
    "even_pairs:min_length=1": "`min_length` must be an integer >= 2",
    "binary_addition:min_length=7,max_length=5": "`max_length` must be an integer >= 7",
    "bucket_sort:num_symbols=1": "`num_symbols` must be an integer >= 2",
    "dyck:length=8": "`length` must be above `max_depth` 8; got 8",
    "listops:min_length=30,max_length=31": "at least `min_length` + 2 = 32; got 31",
    "listops:min_length=5000,max_length=9000": "`min_length` must be at most 4000",
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
    assert roles.shape == batch.inputs.shape[:2] and np.isin(roles, ROLES).all()
    rng, counted, decisive = np.random.default_rng(0), 0, 0
    for column in range(task.input_length):
        inputs = batch.inputs.copy()
        for row in range(29):
            # Another token of the same role keeps the row a row of this task; keys change only where they are evidence,
            # markers, the structure, never.
            same_role = np.setdiff1d(batch.inputs[roles == roles[row, column]], batch.inputs[row, column])
            is_evidence = roles[row, column] != "marker" and (batch.evidence[row] == column).any()
            free = roles[row, column] in ("value", "filler") or is_evidence
            if free and same_role.size:
                inputs[row, column] = rng.choice(same_role)
        changed = inputs[:, column] != batch.inputs[:, column]
        decides = (batch.evidence == column).any(axis=2) & changed[:, None]
        moved = (task.solve(batch._replace(inputs=inputs)) != batch.targets) & (batch.weights > 0)
        assert not (moved & ~decides).any(), f"a change at {column} moved an answer that does not depend on it"
        assert (moved == decides).all() or not task.every_change_counts
        counted, decisive = counted + int(moved.sum()), decisive + int(decides.sum())
    assert decisive > 0 and counted > decisive / 10


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
    """Guessing the likeliest of what the rest of the row leaves open is right at the guess rate."""
    task, batch = draw(spec)
    batch = jax.tree.map(lambda array: array[:500], batch)
    rng, name = np.random.default_rng(3), specs.parse_spec(spec)[0]
    guesses, rates = np.zeros_like(batch.targets), task.guess_rate(batch)
    for row, column in np.argwhere(batch.weights > 0):
        answers, counts = np.unique(UNSEEN[name](task, batch, row, column), return_counts=True)
        guesses[row, column] = rng.choice(answers[counts == counts.max()])
        assert rates[row, column] == pytest.approx(counts.max() / counts.sum())
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
        assert abs(excess.sum()) <= 4 * np.sqrt(np.square(excess).sum()) + 1e-6, shortcut


@every_case
def test_at_length(spec: str):
    task = make_task(spec)
    longer = task.at_length(28)
    assert type(longer) is type(task) and longer.vocab_size == task.vocab_size
    one, other = (jax.eval_shape(lambda rng, of=of: of.sample(rng, 3), jax.random.key(0)) for of in (task, longer))
    assert other.inputs.shape == (3, longer.input_length) and longer.input_length >= 28  # a string, then its answer
    assert other.targets.shape[1] >= one.targets.shape[1]


@pytest.mark.parametrize("spec", TOO_HARD)
def test_impossible_tasks_are_refused_in_one_line(spec: str):
    with pytest.raises(specs.SpecError) as caught:
        make_task(spec)
    assert TOO_HARD[spec] in str(caught.value) and "\n" not in str(caught.value)
