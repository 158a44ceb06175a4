"""Runs that are trained as one: each is what it is alone, whatever becomes of the others."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.model.streams import TRAIN, split_key
from experiments.studies.training_folder import TrainingFolder
from experiments.tasks.registry import make_task
from experiments.training import loop, outcome, step
from experiments.training.course import Source, Stopwatch
from experiments.training.together import Lane, train_together
from tests.experiments.tiny import tiny_run
from tests.experiments.training.test_loop import Killed, timeless
from tests.experiments.training.test_parallel import CLOSE, Kept, numbers

SEEDS = (5, 0, 3)
UNSOLVED = {"train__stop_when_solved": False}
# Rounding moves AdamW's direction where a gradient is about its epsilon; SGD shows the size of each gradient.
PLAIN = {"train__optimizer": "sgd", "train__clip_norm": 1e6, "train__learning_rate": 0.1, "train__eval_every": 1}
VARIANTS = {
    "full, AdamW": {
        "model__attention": "full",
        "model__position": "rope",
        "model__num_heads": 2,
        "model__mlp_dim": 7,
        "train__optimizer": "adamw:epsilon=0.01",
        "train__eval_every": 1,
    },
    "a linear state": PLAIN | {"model__attention": "conv+linear"},
    "an LSTM, which scans": PLAIN | {"model__attention": "lstm"},
    "a triangular inverse, rows with different numbers of targets": PLAIN
    | {"model__attention": "delta", "task": "dyck:length=14"},
    "random rotations, random positions": PLAIN
    | {"model__attention": "lsh:bucket_size=4,num_buckets=2", "model__position": "randomized:max_length=31"},
    "a context": PLAIN | {"task": "translation:min_length=3,max_length=5"},
}


def seeds_of(**values):
    return [tiny_run(seed=seed, **values) for seed in SEEDS]


def together(runs, folders=None, **arguments):
    """Trains runs at once; returns what each ended in, by its place."""
    ended = {}
    lanes = [run and Lane(run, folder) for run, folder in zip(runs, folders or [None] * len(runs), strict=True)]
    train_together(lanes, ended.__setitem__, **arguments)
    return ended


@pytest.fixture
def folders(tmp_path):
    made = [TrainingFolder(tmp_path / str(seed)) for seed in SEEDS]
    for folder in made:
        folder.create({}, {})
    return made


def assert_close(alone, other):
    for mine, yours in zip(numbers(*alone), numbers(*other), strict=True):
        for left, right in zip(mine, yours, strict=True):
            np.testing.assert_allclose(np.float64(right), np.float64(left), **CLOSE)


@pytest.mark.parametrize(
    "case", [case if case == "full, AdamW" else pytest.param(case, marks=pytest.mark.slow) for case in VARIANTS]
)
def test_each_run_is_what_it_is_alone(case):
    runs = seeds_of(**UNSOLVED, **VARIANTS[case])
    folders = [Kept() for _ in runs]
    ended = together(runs, folders)
    for place, run in enumerate(runs):
        folder = Kept()
        alone = loop.train(run, folder)
        assert_close((alone, folder), (ended[place], folders[place]))
        kept = ("steps", "status", "steps_to_solve", "task", "model", "floor", "ceiling")
        assert {name: ended[place][name] for name in kept} == {name: alone[name] for name in kept}
        assert ended[place].keys() == alone.keys() and ended[place]["compute"].keys() == alone["compute"].keys()
    assert len({result["parameter_hash"] for result in ended.values()}) == len(SEEDS)


@pytest.mark.parametrize("task", ["mqar:length=14,num_pairs=3,vocab_size=22", "adding:length=11", "translation"])
def test_rows_drawn_by_vmap_are_those_of_each_run_alone(task):
    """Bit for bit."""
    drawn = make_task(task)

    def rows(seed, number):
        return drawn.sample(jax.random.fold_in(split_key(seed, TRAIN), number), 5)

    seeds, places = jnp.stack([jax.random.key(seed) for seed in SEEDS]), jnp.asarray([0, 7, 2])
    whole = jax.jit(jax.vmap(rows))(seeds, places)
    alone = jax.tree.map(lambda *each: jnp.stack(each), *map(jax.jit(rows), seeds, places))
    assert jax.tree.all(jax.tree.map(lambda many, ones: bool((many == ones).all()), whole, alone))


def test_initial_parameters_are_those_of_each_run_alone(folders):
    runs = seeds_of(train__keep_checkpoints="every")
    together(runs, folders)
    for run, folder in zip(runs, folders, strict=True):
        initial = step.initial_state(run).params
        assert outcome.parameter_hash(folder.load_parameters(0, initial)) == outcome.parameter_hash(initial)
        assert folder.kept_steps() == [0, 3, 6, 7]


@pytest.mark.slow
def test_runs_of_other_rates_and_lengths_of_chunks_share_a_program():
    values = [{"train__learning_rate": 0.01}, {"train__learning_rate": 0.1}, {"train__eval_every": 2}]
    runs = [tiny_run(**PLAIN | UNSOLVED | each) for each in values]
    folders = [Kept() for _ in runs]
    ended = together(runs, folders)
    for place, run in enumerate(runs):
        folder = Kept()
        assert_close((loop.train(run, folder), folder), (ended[place], folders[place]))


def kill_after(chunks):
    count = iter(range(chunks - 1))

    def saved():
        if next(count, None) is None:
            raise Killed

    return saved


@pytest.fixture(scope="module")
def uninterrupted():
    return together(seeds_of())


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("lost", [0, 1])
def test_runs_that_were_interrupted_go_on_to_the_same_bits(folders, uninterrupted, chunks, lost):
    """Also where one of them lost its newest checkpoint, and is a chunk behind the others."""
    with pytest.raises(Killed):
        together(seeds_of(), folders, saved=kill_after(chunks))
    for path in folders[1].checkpoints()[::-1][:lost]:
        path.unlink()
    ended = together(seeds_of(), folders)
    assert {place: timeless(result) for place, result in ended.items()} == {
        place: timeless(result) for place, result in uninterrupted.items()
    }
    assert all([row["step"] for row in folder.metrics()] == [3, 6, 7] for folder in folders)


def test_a_lane_may_be_empty_and_moves_no_bit_of_the_others(uninterrupted):
    first, second, third = seeds_of()
    ended = together([None, second, third])
    assert set(ended) == {1, 2}
    assert all(timeless(ended[place]) == timeless(uninterrupted[place]) for place in ended)


@pytest.mark.parametrize("first", ["together", "alone"])
def test_a_run_may_go_on_alone_or_together(folders, first):
    runs = seeds_of(**PLAIN)

    def train(form, saved):
        if form == "together":
            return together(runs, folders, saved=saved)[1]
        return loop.train(runs[1], folders[1], lambda event: saved())

    with pytest.raises(Killed):
        train(first, kill_after(3))
    folder = Kept()
    alone = loop.train(runs[1], folder)
    result = train({"together": "alone", "alone": "together"}[first], lambda: None)
    assert result["steps"] == 7 and result["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-5)
    losses = [[row["train_loss"] for row in each] for each in (folders[1].metrics(), folder.rows)]
    assert len(losses[0]) == 7 and losses[0] == pytest.approx(losses[1], rel=1e-5)


def solved_at_first(monkeypatch, seed):
    """Lets every validation of one seed be right."""
    measure = outcome.measure

    def good(run, *arguments):
        found = measure(run, *arguments)
        return found._replace(accuracy=1.0) if run.seed == seed else found

    monkeypatch.setattr(outcome, "measure", good)


def test_a_solved_run_ends_at_its_step_and_the_others_go_on(monkeypatch, uninterrupted):
    solved_at_first(monkeypatch, SEEDS[1])
    order = []
    ended = {}
    lanes = [Lane(run, report=lambda event, run=run: order.append((run.seed, event["step"]))) for run in seeds_of()]

    def end(place, result):
        order.append((SEEDS[place], "ended"))
        ended[place] = result

    train_together(lanes, end)
    assert (ended[1]["steps"], ended[1]["steps_to_solve"]) == (3, 3)
    assert ended[1]["parameter_hash"] == together(seeds_of(train__solved_at=0.0))[1]["parameter_hash"]
    assert order.index((0, "ended")) < order.index((5, 6)), "its result does not wait for the others"
    assert all(timeless(ended[place]) == timeless(uninterrupted[place]) for place in (0, 2))


def test_what_is_over_keeps_all_its_bits():
    """In the program itself, a lane at its stop; the other lanes take their steps."""
    runs = seeds_of()
    program = step.compile_together(runs[0], 3)
    states, _, _ = program.advance_together(runs, [step.initial_state(run) for run in runs], [2, 2, 2])
    hashes = [outcome.parameter_hash(state) for state in states]
    states, _, _ = program.advance_together(runs, states, [7, 2, 1])
    assert [int(state.step) for state in states] == [7, 2, 2]
    now = [outcome.parameter_hash(state) for state in states]
    assert now[0] != hashes[0] and now[1:] == hashes[1:]


def test_a_seed_that_diverges_does_not_take_the_others_along(uninterrupted):
    wild = tiny_run(seed=SEEDS[1], train__learning_rate=1e30, train__eval_every=7)
    runs = seeds_of()
    ended = together([runs[0], wild, runs[2]])
    alone = loop.train(wild)
    for name in ("status", "diverged_at", "steps"):
        assert ended[1][name] == alone[name]
    assert ended[1]["status"] == "diverged" and math.isfinite(ended[1]["test_loss"])
    assert all(timeless(ended[place]) == timeless(uninterrupted[place]) for place in (0, 2))


@pytest.mark.parametrize("moment", ["load_checkpoint", "log"])
def test_a_seed_that_fails_does_not_take_the_others_along(uninterrupted, moment):
    folders = [Kept() for _ in SEEDS]

    def broken(*arguments):
        raise ZeroDivisionError("planted")

    setattr(folders[1], moment, broken)
    ended = together(seeds_of(), folders)
    assert isinstance(ended[1], ZeroDivisionError)
    assert all(timeless(ended[place]) == timeless(uninterrupted[place]) for place in (0, 2))


def test_time_is_shared_out(monkeypatch):
    now = iter([0.0, 0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr("experiments.training.course.time.perf_counter", functools.partial(next, now))
    watch = Stopwatch()
    first, second = watch.start(), watch.start()
    assert (first.seconds(), second.counted) == (2.0 + 4.0, 4.0)
    second.add([{"seconds": 100.0}])
    watch.end(second)
    assert (first.counted, second.counted) == (7.5, 105.5)


def test_pretraining_is_taken_over():
    runs = seeds_of(pretrain__task="mqar:length=14,num_pairs=2,vocab_size=22")

    def source(run):
        flops = {"train_flops_executed": 3, "train_flops_ideal": 2}
        return Source(step.initial_state(tiny_run(seed=run.seed + 100)).params, flops)

    ended = {}
    train_together([Lane(run, source=source(run)) for run in runs], ended.__setitem__)
    for place, run in enumerate(runs):
        alone = loop.train(run, source=source(run))
        assert ended[place]["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-4)
        assert ended[place]["compute"]["pretrain_flops"] == 3
