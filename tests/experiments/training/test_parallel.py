"""Four devices that share every batch give the numbers of one, and each does a quarter of the work."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis.memory import least_bytes
from experiments.studies.training_folder import TrainingFolder
from experiments.tasks.registry import make_task
from experiments.training import loop, parallel, step
from experiments.training.parallel import Devices
from tests.experiments.tiny import tiny_run

# Rounding moves these numbers by less than a tenth of this. What is planted below, or a mean of means where devices
# read different numbers of targets, moves them by a thousand times as much.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
SIZES = {"train__batch_size": 8, "train__eval_every": 1, "eval__batch_size": 8, "train__stop_when_solved": False}
# AdamW and clipping take away how large a gradient is.
UNCLIPPED = {"train__optimizer": "sgd", "train__clip_norm": 1e6, "train__learning_rate": 0.1}
RUNS = {
    "sgd, which sees the size of a gradient, and random features": {
        **UNCLIPPED,
        "model__attention": "conv+performer",
        "eval__test_lengths": "20",
    },
    "random rotations, random positions": {
        "model__attention": "lsh:bucket_size=4,num_buckets=2",
        "model__position": "randomized:max_length=31",
    },
    "rows with different numbers of targets": {"task": "dyck:length=14", "model__attention": "conv+delta"},
    "a context": {"task": "translation", "model__attention": "full"},
}


class Kept:
    """A folder in memory."""

    def __init__(self, state=None):
        self.state, self.rows = state, []

    def log(self, metrics):
        pass

    def replace_metrics(self, rows):
        self.rows = rows

    def save_checkpoint(self, number, state, rows):
        self.state = jax.device_get(state)

    def load_checkpoint(self, like):
        return None


def train(run, number):
    folder = Kept()
    with parallel.shared_by(Devices.first(number)):
        result = loop.train(run, folder)
    return result, folder


def numbers(result, folder):
    """Returns all that is to be close: losses of every step, scores, and the last and the best parameters."""
    timeless = ("step", "train_loss", "validation_accuracy", "validation_loss")
    rows = [[row[name] for name in timeless] for row in folder.rows]
    scores = {name: result[name] for name in ("test_loss", "validation_loss")}
    return jax.tree.leaves((rows, scores, [test["loss"] for test in result["tests"]])), jax.tree.leaves(folder.state)


def assert_close(one, four):
    for mine, yours in zip(numbers(*one), numbers(*four), strict=True):
        for left, right in zip(mine, yours, strict=True):
            np.testing.assert_allclose(np.float64(right), np.float64(left), **CLOSE)
    assert [t["accuracy"] for t in one[0]["tests"]] == [t["accuracy"] for t in four[0]["tests"]]
    assert {n: s["count"] for n, s in one[0]["slices"].items()} == {n: s["count"] for n, s in four[0]["slices"].items()}


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNS)
def test_four_devices_give_the_numbers_of_one(case):
    run = tiny_run(**SIZES | RUNS[case])
    assert_close(train(run, 1), train(run, 4))


def half_twice(self, batch):
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf[: len(leaf) // 2]] * 2), batch)


def summed_not_averaged(run, graph, params, batch, rng=None):
    loss, gradient = PLAIN_GRADIENT(run, graph, params, batch, rng)
    return loss, jax.tree.map(lambda leaf: leaf * parallel.devices().number, gradient)


PLAIN_GRADIENT = step.gradient_step
PLANTED = {
    "every process draws the same half": (Devices, "spread", half_twice),
    "gradients are added up and not averaged": (step, "gradient_step", summed_not_averaged),
}


@pytest.fixture(scope="module")
def unclipped():
    run = tiny_run(**SIZES | UNCLIPPED | {"train__steps": 4})
    return run, train(run, 1)


@pytest.mark.slow
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught(bug, unclipped, monkeypatch):
    run, one = unclipped
    monkeypatch.setattr(*PLANTED[bug])
    step._compile.cache_clear()
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close(one, train(run, 4))
    step._compile.cache_clear()


@pytest.mark.parametrize("spec", ["mqar:length=14,num_pairs=3,vocab_size=22", "dyck:length=14", "adding:length=14"])
def test_the_rows_are_those_of_one_device_to_the_bit(spec):
    task, four = make_task(spec), Devices.first(4)
    rows = four.jit(lambda rng: four.spread(task.sample(rng, 8)))(jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, rows, jax.jit(lambda rng: task.sample(rng, 8))(jax.random.key(3)))


@pytest.mark.slow
def test_every_device_does_its_part():
    flops = []
    for number in (1, 4):
        with parallel.shared_by(Devices.first(number)):
            flops.append(step.compile_program(tiny_run(**SIZES)).chunk.cost_analysis()["flops"])
    assert flops[1] < 0.3 * flops[0], "of a step, the update of all parameters included"


@pytest.fixture(scope="module")
def whole():
    return train(tiny_run(**SIZES), 1)


@pytest.mark.slow
@pytest.mark.parametrize("first, then", [(4, 1), (1, 4)])
def test_a_run_goes_on_with_another_number_of_devices(tmp_path, whole, first, then):
    run, folder = tiny_run(**SIZES), TrainingFolder(tmp_path / "run")
    folder.create({}, {})

    class Killed(Exception):
        pass

    def kill(event):
        if event["step"] == 3:
            raise Killed

    with pytest.raises(Killed), parallel.shared_by(Devices.first(first)):
        loop.train(run, folder, kill)
    steps = []
    with parallel.shared_by(Devices.first(then)):
        result = loop.train(run, folder, lambda event: steps.append(event["step"]))
    assert steps == [4, 5, 6, 7]
    assert [row["train_loss"] for row in folder.metrics()] == pytest.approx(
        [row["train_loss"] for row in whole[1].rows], rel=2e-4
    )
    assert result["test_loss"] == pytest.approx(whole[0]["test_loss"], rel=2e-4)


@pytest.mark.slow
def test_one_device_is_the_plain_program(whole):
    assert whole[0]["parameter_hash"] == loop.train(tiny_run(**SIZES))["parameter_hash"]
    assert Devices.first(1) == Devices() and parallel.devices() == Devices()


@pytest.mark.parametrize("section", ["train", "eval"])
def test_batches_that_cannot_be_shared_are_refused(section):
    run = tiny_run(**SIZES | {f"{section}__batch_size": 6})
    Devices.first(2).check([run])
    with pytest.raises(ValueError, match=rf"^{section}.batch_size must .* devices .*, 4; got 6. Nearest: 4 or 8.$"):
        Devices.first(4).check([tiny_run(**SIZES), run])


def test_devices_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="^--devices=9 needs 9 devices; this process has 8.$"):
        Devices.first(9)


def test_a_part_of_a_batch_needs_less_memory():
    run = tiny_run(**SIZES | {"train__batch_size": 4096})
    assert least_bytes(run) > least_bytes(run, 4) > least_bytes(run) / 4


def test_what_is_agreed_on_is_what_was_given():
    """With one process; `tests/experiments/test_distributed.py` has two."""
    state, rows = {"a": np.float32([-0.0, 1.5]), "b": np.int32(3)}, [{"step": 3}]
    with parallel.shared_by(Devices.first(4)):
        agreed, same = parallel.devices().agree(state, rows)
        assert parallel.leads() and json.dumps(same) == json.dumps(rows)
    assert {name: np.asarray(leaf).tobytes() for name, leaf in agreed.items()} == {
        name: leaf.tobytes() for name, leaf in state.items()
    }
    assert all(leaf.sharding.is_fully_replicated and len(leaf.sharding.device_set) == 4 for leaf in agreed.values())


def test_devices_are_hashable_and_come_back():
    four = Devices.first(4)
    assert hash(four) == hash(Devices.first(4)) and dataclasses.replace(four) == four != Devices.first(2)
    with parallel.shared_by(four):
        assert parallel.devices() == four and (four.number, four.processes) == (4, 1)
    assert parallel.devices() == Devices()
