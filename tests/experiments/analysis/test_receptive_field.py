"""Ceilings against published numbers, against pictures, and against gradients of a toy that mixes as patterns say."""

import dataclasses
import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.layer_options import LayerOptions
from attention_variants.registry import VARIANTS, example_spec, make_variant
from experiments.analysis import receptive_field
from experiments.analysis.receptive_field import accuracy_within, share_within
from experiments.components import reach
from experiments.components.attention import Attention
from experiments.components.convolution import GatedConvolution
from experiments.components.mixers import LayerSizes
from experiments.tasks.base import Task
from experiments.tasks.formal.group_word import GroupWord
from experiments.tasks.recall.in_context_recall import InContextRecall
from experiments.tasks.recall.induction import Induction
from experiments.tasks.recall.mqar import MQAR
from tests.experiments.tiny import tiny_run

PUBLISHED_SETS = ((64, 4), (64, 8), (64, 16), (128, 32), (256, 64), (512, 128), (1024, 256))
PUBLISHED_ACCURACY = {16: 0.145, 64: 0.514, 256: 0.797, 1024: 1.00}


@dataclasses.dataclass(frozen=True)
class Window:
    """Stands in for an attention variant: all that reach asks of one is its pattern."""

    size: int

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        back = np.arange(query_length)[:, None] - np.arange(key_length)
        return (np.abs(back) < self.size) & ((back >= 0) | (not causal))


def model_reach(mixers: list, length: int, causal: bool = True, short_conv: int = 0) -> np.ndarray:
    sizes = LayerSizes(6, 3, 3, options=LayerOptions(short_conv=short_conv))
    layers = [Attention(variant=mixer) if hasattr(mixer, "pattern") else mixer for mixer in mixers]
    return receptive_field.model_reach([(layer, sizes) for layer in layers], length, causal)


@functools.cache
def published_task(length: int, num_pairs: int) -> Task:
    return MQAR(length=length, num_pairs=num_pairs, vocab_size=8192, random_fillers=True)


@pytest.mark.slow
@pytest.mark.parametrize("window_size", PUBLISHED_ACCURACY)
def test_window_ceilings_equal_the_published_accuracy(window_size: int):
    shares, ceilings = [], []
    for length, num_pairs in PUBLISHED_SETS:
        task, layer = published_task(length, num_pairs), Window(window_size)
        rows = max(64, 32768 // (num_pairs * num_pairs))
        shares.append(share_within(layer.pattern(length, length, True), task, rows))
        ceilings.append(accuracy_within(model_reach([layer], length), task, rows))
    assert np.mean(shares) == pytest.approx(PUBLISHED_ACCURACY[window_size], abs=0.005)
    assert np.mean(ceilings) == pytest.approx(PUBLISHED_ACCURACY[window_size], abs=0.005)


def test_one_piece_of_evidence_is_enough_where_the_task_says_so():
    task, window = InContextRecall(length=128, vocab_size=16), Window(32).pattern(128, 128, True)
    sink = window | (np.arange(128) < 2)  # the first pair, further back than the nearest of the same key
    assert share_within(window, task, 512) == pytest.approx(0.92, abs=0.01)
    assert share_within(sink, task, 512) > share_within(window, task, 512) + 0.005


@pytest.mark.parametrize(
    "mixers, short_conv, picture",
    [
        ([Window(2)], 0, "1.... 11... .11.. ..11. ...11"),
        ([Window(2), Window(2)], 0, "1.... 11... 111.. .111. ..111"),
        ([Window(2)], 2, "1.... 11... 111.. .111. ..111"),
        ([Window(1)], 3, "1.... 11... 111.. .111. ..111"),
        ([GatedConvolution(kernel_size=2)], 5, "1.... 11... .11.. ..11. ...11"),
        ([GatedConvolution(kernel_size=2), Window(2), Window(2)], 0, "1.... 11... 111.. 1111. .1111"),
    ],
)
def test_reach_pictures(mixers: list, short_conv: int, picture: str):
    matrix = model_reach(mixers, 5, short_conv=short_conv)
    assert " ".join("".join(".1"[int(seen)] for seen in row) for row in matrix) == picture


def test_layers_compose_in_order():
    """What layer 1 gathers, layer 2 carries on; the other way round it arrives too late."""

    @dataclasses.dataclass(frozen=True)
    class Edge:
        query: int
        key: int

        def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
            pattern = np.zeros((query_length, key_length), bool)
            pattern[self.query, self.key] = True
            return pattern

    assert model_reach([Edge(2, 0), Edge(4, 2)], 5)[4, 0]
    assert not model_reach([Edge(4, 2), Edge(2, 0)], 5)[4, 0]


@pytest.mark.parametrize("causal", [True, False])
def test_reach_equals_the_gradients_of_a_model_that_mixes_so(causal: bool):
    length, mixers, short_conv = 13, [Window(2), Window(3), Window(1)], 2 if causal else 0
    weights = jax.random.uniform(jax.random.key(0), (len(mixers), 2, length), minval=0.5)

    def model(x: jax.Array) -> jax.Array:
        for mixer, (tap, gate) in zip(mixers, weights, strict=True):
            seen = x + tap * jnp.roll(x, 1).at[0].set(0) if short_conv else x
            pattern = mixer.pattern(length, length, causal).astype(float)
            x = x + gate * (pattern @ seen) + (seen - x)
        return x

    moved = np.asarray(jax.jacobian(model)(jnp.ones(length))) != 0
    np.testing.assert_array_equal(model_reach(mixers, length, causal, short_conv), moved)


def test_the_rest_is_guessed():
    task = Induction(length=11, vocab_size=7)
    nothing, everything = np.zeros((11, 11), bool), np.ones((11, 11), bool)
    assert share_within(nothing, task) == 0 and accuracy_within(nothing, task) == pytest.approx(1 / 6)
    assert accuracy_within(everything, task) == 1
    half = share_within(Window(5).pattern(11, 11, True), task)
    assert half == pytest.approx(4 / 9, abs=0.03)  # the answer is at 1..9, the last query sees 6..10
    assert accuracy_within(Window(5).pattern(11, 11, True), task) == pytest.approx(half + (1 - half) / 6)


def test_padded_targets_and_evidence_do_not_count():
    task = MQAR(mixture="14x3/22x5", vocab_size=37)
    assert share_within(np.ones((22, 22), bool), task, 512) == 1
    rows = receptive_field._draw_targets(task, 512)
    assert (rows.weights > 0).all() and 3 * 512 < len(rows.weights) < 5 * 512
    assert share_within(np.zeros((22, 22), bool), task, 512) == 0


def test_ceilings_of_runs():
    def ceiling(attention: str, num_layers: int = 0, seed: int = 0) -> float:
        task = "mqar:length=64,num_pairs=8,vocab_size=8192"
        run = tiny_run(task=task, model__attention=attention, model__num_layers=num_layers, seed=seed)
        return receptive_field.ceiling(run, run.task)

    window = "sliding_window:window_size=8"
    assert ceiling("full") == 1.0
    assert ceiling(window) < ceiling(f"conv+{window}") < ceiling(window, num_layers=3) < 1
    assert ceiling(f"conv+{window}", seed=1) == ceiling(f"conv+{window}")


@pytest.mark.parametrize("attention", ["full", "sliding_window:window_size=8", "sliding_window:window_size=1"])
def test_ceilings_by_slice_average_to_the_ceiling(attention: str):
    run = tiny_run(task="mqar:length=64,num_pairs=8,vocab_size=128", model__attention=attention)
    values = np.asarray(receptive_field._draw_targets(run.task, receptive_field.ROWS).slices["distance"])
    edges = [1, 2, 4, 8, 16, 32, 64, 128]
    counts, _ = np.histogram(values, edges)
    slices = {"distance": {"edges": edges}, "num_pairs": {"values": [3, 8]}}
    found = receptive_field.slice_ceilings(run, slices)
    by_distance = np.array([1.0 if each is None else each for each in found["distance"]])
    assert np.average(by_distance, weights=counts) == pytest.approx(receptive_field.ceiling(run, run.task))
    assert found["num_pairs"] == [None, pytest.approx(receptive_field.ceiling(run, run.task))]
    assert (found["distance"][1] == 1.0) == ("window_size=1" not in attention)
    assert (found["distance"][-2] == 1.0) == (attention == "full")


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("spec", VARIANTS)
def test_long_rows_reach_what_the_definitions_say(spec: str, causal: bool, monkeypatch: pytest.MonkeyPatch):
    """Patterns of long rows are read in pieces that blocks skip by, and not from the definition."""
    variant = make_variant(example_spec(spec, 16))
    if not (variant.supports_causal if causal else variant.supports_bidirectional):
        return
    expected = variant.pattern(301, 301, causal) | np.eye(301, dtype=bool)
    for name, value in (("_DENSE", 300), ("_ROWS", 7), ("_TILE", 11), ("_GATHERED", 50)):
        monkeypatch.setattr(reach, name, value)
    found = reach.union(reach.pattern_runs(variant, 301, 301, causal), reach.causal_taps(301, 1))
    np.testing.assert_array_equal(reach.spread(found, np.eye(301, dtype=bool)), expected)


def test_ceilings_of_long_rows_follow_only_the_evidence(monkeypatch: pytest.MonkeyPatch):
    """Rows in which a matrix of all pairs would take 4 GB."""
    run = tiny_run(task="mqar:length=65536,num_pairs=4,vocab_size=65537", model__attention="conv+sliding_window+linear")
    positions, evidence = np.array([9, 300, 65535]), np.array([[8], [9], [0]])
    targets = receptive_field._Targets(positions, evidence, np.ones(3), np.zeros(3), {})
    monkeypatch.setattr(receptive_field, "_MOVED_BYTES", 1)  # one word of columns at a time
    tracemalloc.start()
    assert receptive_field._best_of(run, run.task, targets).tolist() == [1, 1, 1]
    window = tiny_run(task=run.config.task, model__attention="conv+sliding_window:window_size=64")
    assert receptive_field._best_of(window, window.task, targets).tolist() == [1, 0, 0]
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()


def test_bits_of_evidence_are_the_matrix_of_all_inputs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receptive_field, "_MOVED_BYTES", 1)
    for attention in ("conv+sliding_window:window_size=9", "dilated_window:window_size=3,dilation=5+conv", "linear"):
        run = tiny_run(task="mqar:length=150,num_pairs=30,vocab_size=151", model__attention=attention)
        expected = accuracy_within(receptive_field.task_reach(run, run.task), run.task, 128)
        assert receptive_field.ceiling(run, run.task, 128) == expected


def test_fewer_of_very_long_rows_are_drawn():
    task = MQAR(length=2**15, num_pairs=4, vocab_size=2**15 + 1)
    assert receptive_field._rows_per_batch(task) == 128
    assert receptive_field._rows(MQAR(length=2**14, num_pairs=4, vocab_size=2**15), 8192) == 8192
    assert receptive_field._rows(task, 8192) == 4096


def test_fewer_of_rows_with_much_evidence_are_drawn():
    short, long = GroupWord(length=128), GroupWord(length=2048)  # every target has all elements before it
    assert receptive_field._rows(short, 8192) == 8192 and receptive_field._rows_per_batch(short) == 256
    assert receptive_field._rows(long, 8192) == 32 and receptive_field._rows_per_batch(long) == 16


def test_a_pattern_too_scattered_for_its_length_is_refused_at_once():
    task, scattered = "mqar:length=1048574,num_pairs=4,vocab_size=1048576", "strided_sparse:stride=8"
    with pytest.raises(ValueError, match="too many scattered keys in rows of 1048574 tokens"):
        tiny_run(task=task, model__attention=f"conv+{scattered}")
    tiny_run(task=task, model__attention="conv+sliding_window+linear")
