import pytest

from attention_variants.interface import HeadSizes
from attention_variants.registry import make_variant
from experiments.analysis import compute
from experiments.training import step
from experiments.training.step import compile_program
from tests.experiments.tiny import tiny_cost, tiny_run

LENGTH, SCORED, VOCAB, DIM, HEADS, MLP, BATCH, STEPS = 14, 3, 22, 12, 3, 17, 5, 7
SPECS = ("full", "sliding_window:window_size=3", "linear:chunk_size=5", "strided_sparse:stride=4")


def attention_cost(spec):
    return make_variant(spec).cost(LENGTH, LENGTH, HeadSizes(HEADS, HEADS, DIM // HEADS, DIM // HEADS), True)


@pytest.mark.parametrize("spec", SPECS)
def test_counts_equal_those_made_by_hand(spec):
    counted = tiny_cost(model__attention=f"conv+{spec}", model__mlp_dim=MLP)
    cost = attention_cost(spec)
    projections = 2 * LENGTH * DIM * DIM * (1 + 4)
    mlps = 2 * 2 * LENGTH * DIM * MLP * 2
    dense = projections + mlps + 2 * SCORED * DIM * VOCAB
    assert counted["train_flops_ideal"] == STEPS * BATCH * 3 * (dense + cost.ideal_flops)
    assert counted["train_flops_executed"] > STEPS * BATCH * 3 * (dense + cost.executed_flops) - 1
    assert counted["forward_flops_per_token"] == round((dense + cost.executed_flops) / LENGTH)
    assert counted["cache_bytes"] == cost.cache_bytes + 4 * 2 * DIM
    norms = 5 * DIM
    matrices = 2 * VOCAB * DIM + 5 * DIM * DIM + 2 * 2 * DIM * MLP
    biases = DIM + 2 * (DIM + MLP)
    assert counted["params"] == matrices + biases + norms + 3 * DIM
    assert counted["control_params"] == 0


@pytest.mark.parametrize("spec", ["topk:num_keys=3", "lsh:bucket_size=3,num_buckets=4", *SPECS])
def test_the_ideal_is_never_more_than_what_is_executed(spec):
    """A choice without gradient executes less than three times its forward pass."""
    counted = tiny_cost(model__attention=spec)
    assert 0 < counted["train_flops_ideal"] <= counted["train_flops_executed"]


def test_a_short_convolution_keeps_what_it_reads_again():
    plain, short = (tiny_cost(model__attention="full", model__short_conv=k) for k in (0, 4))
    assert short["cache_bytes"] - plain["cache_bytes"] == 4 * 3 * DIM
    assert short["params"] - plain["params"] == 4 * DIM


def test_the_peak_holds_parameters_and_both_moments_at_least():
    run = tiny_run()
    assert compile_program(run).peak_bytes > 3 * 4 * compute.count(run, 1)["params"]


def test_cells_whose_steps_cost_the_same_are_traced_once():
    """A grid of learning rates takes no longer than one of them."""
    caches = compute._step, step._trace
    for cache in caches:
        cache.cache_clear()
    for rate, steps in ((0.001, 3), (0.002, 3), (0.002, 5)):
        run = tiny_run(train__learning_rate=rate, train__steps=steps, train__schedule="constant:warmup_steps=0")
        assert compute.count(run, steps)["params"] == compute.count(run, 1)["params"] > 0
        step.trace(run)
    assert [cache.cache_info().misses for cache in caches] == [1, 2]  # the number of steps is part of a schedule
