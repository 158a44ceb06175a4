"""What a model is said to execute and hold, against what its parts say by themselves."""

import jax
import pytest
from flax import nnx

from attention_variants.cost import count_flops
from attention_variants.registry import VARIANTS, example_spec
from experiments.analysis import accounting, compute
from experiments.analysis.accounting import DECODE, FORWARD, PREFILL, STEP
from experiments.components.mixers import Call
from experiments.model.transformer import abstract_model
from tests.experiments.tiny import tiny_run

LENGTH, SCORED, VOCAB, DIM, HEADS, BATCH = 14, 3, 22, 12, 3, 5
PROJECTIONS, GATE, UNEMBEDDING = 4 * 2 * DIM**2, 2 * DIM**2, 2 * DIM * VOCAB


def spec(name):
    """A spec for rows of 14 tokens."""
    return example_spec(name, 16)


def run_of(name, **values):
    if not VARIANTS[name].supports_causal:
        values["model__bidirectional"] = True
    return tiny_run(model__attention=f"conv+{spec(name)}", **values)


def control_flops(run, tokens):
    """Those of what a variant reads besides query, key and value, for so many tokens."""
    model = nnx.merge(*abstract_model(run))
    controls = model.layers[1].mixer.controls
    x = jax.ShapeDtypeStruct((1, tokens, DIM), "float32")
    if controls is None:
        return 0
    graph, params = nnx.split(controls)
    return count_flops(lambda params, x: nnx.merge(graph, params)(x), params, x)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_forward_pass_is_its_products_and_what_the_variant_says_it_costs(name):
    """The jaxpr of the whole model against `cost` and products that are counted by hand, for every variant."""
    run = run_of(name)
    forward = accounting._forward(run)
    (_, (attention, sizes)), call = run.built, compute.Call(LENGTH, LENGTH, run.causal)
    cost = attention.cost(sizes, call)
    dense = LENGTH * (PROJECTIONS + GATE) + SCORED * UNEMBEDDING + control_flops(run, LENGTH)
    assert forward.work.flops == BATCH * (dense + cost.executed_flops)
    assert forward.ideal_flops == BATCH * (dense + cost.ideal_flops)
    assert (forward.rows, forward.tokens) == (BATCH, BATCH * LENGTH)


@pytest.mark.parametrize("name", [name for name, kind in VARIANTS.items() if kind.supports_causal])
def test_decoding_is_charged_by_the_ideal_of_the_last_token_and_its_state_is_what_a_cache_holds(name):
    run = run_of(name)
    cache = accounting._cache(run, LENGTH)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(jax.tree.map(lambda leaf: jax.numpy.zeros_like(leaf), cache)))
    counters = 4 * sum(leaf.ndim == 0 for leaf in jax.tree.leaves(cache))
    assert held - counters == accounting._bytes(cache) == compute.cache_bytes(run)
    (_, (attention, sizes)) = run.built
    ideals = [attention.cost(sizes, compute.Call(n, n, True)).ideal_flops for n in (LENGTH - 1, LENGTH)]
    token = PROJECTIONS + GATE + UNEMBEDDING
    for kind, new, ideal in ((DECODE, 1, ideals[1] - ideals[0]), (PREFILL, LENGTH, ideals[1])):
        counted = accounting._decoding(run, kind, new)
        around = new * token + control_flops(run, new)
        assert counted.ideal_flops == around + min(ideal, counted.work.flops - around)
        assert counted.tokens == new and (counted.work.flops - around >= ideal or name in ("performer", "taylor"))


# What choosing takes, by the definition of each variant: rows of 14 tokens, 3 heads, one row.
CHOICES = {
    "full": {"sort": 0, "top_k": 0},
    "topk": {"sort": 0, "top_k": HEADS * LENGTH * LENGTH * 3},  # 4 of all keys, a heap of three levels
    "linear": {"sort": 0, "top_k": 0, "scatter": 0},
}


@pytest.mark.parametrize("name", CHOICES)
def test_what_a_variant_chooses_is_shown_apart(name):
    run = run_of(name, train__batch_size=1)
    work = accounting._forward(run).work
    assert {kind: getattr(work, kind) for kind in CHOICES[name]} == CHOICES[name]


def test_a_hash_is_an_argmax_of_its_buckets():
    """Beside the sort of the buckets: 2 rounds' worth of 4 buckets for queries and keys of every head."""
    run = tiny_run(model__attention="lsh:bucket_size=3,num_buckets=4,num_hashes=2", train__batch_size=1)
    work = accounting._forward(run).work
    assert work.argmax == 2 * HEADS * LENGTH * 2 * 4 and work.sort > 0 and work.gather > LENGTH * DIM


def test_an_account_has_the_passes_that_the_model_has():
    account = accounting.account(tiny_run())
    assert [each.name for each in account.passes] == list(accounting.PASSES)
    assert account.of(STEP).work.flops == compute.count(tiny_run(), 1)["train_flops_executed"]
    assert account.of(STEP).ideal_flops == compute.count(tiny_run(), 1)["train_flops_ideal"]
    counted = compute.count(tiny_run(), 1)
    assert account.memory.params == 4 * (counted["params"] + counted["control_params"])
    assert account.memory.cache_grows == 4 * 2 * DIM  # a key and a value
    whole = accounting.account(tiny_run(model__attention="full", model__bidirectional=True))
    assert [each.name for each in whole.passes] == [FORWARD, STEP]
    assert whole.of(DECODE) is None and whole.memory.cache == whole.memory.cache_grows == 0


def test_what_is_kept_of_a_context_counts_and_does_not_grow():
    run = tiny_run(task="translation", model__attention="full")
    account = accounting.account(run)
    assert account.memory.cache == compute.cache_bytes(run) > compute.state_bytes(run, run.task.input_length)
    assert account.memory.cache_grows == 4 * 2 * DIM and account.of(PREFILL).tokens == run.task.input_length


def test_what_attention_to_a_context_computes_in_vain_is_no_ideal_work():
    """A query of `linear` sums up the whole context again; that of `full` meets each of its tokens once."""
    accounts, costs = [], []
    for cross in ("full", "linear"):
        run = tiny_run(task="translation", model__attention="full", model__cross_attention=cross)
        accounts.append(accounting.account(run).of(DECODE))
        costs.append(run.cross.cost(run.cross_sizes, Call(1, run.task.context.length, False)))
    full, linear = (cost.ideal_flops for cost in costs)
    assert accounts[1].work.flops > 1.2 * accounts[0].work.flops
    assert accounts[1].ideal_flops - accounts[0].ideal_flops == len(run.built) * (linear - full)


def test_activations_grow_with_batch_and_depth_and_not_with_what_is_looked_up():
    """One residual stream per layer at the least; parameters, of any size, are none of it."""

    def held(**values):
        return accounting.activation_bytes(tiny_run(**values))

    stream = 4 * BATCH * LENGTH * DIM
    assert held(train__batch_size=10) == 2 * held() >= 2 * 2 * stream
    assert held(model__attention="conv+full+full") - held() == held(model__attention="conv+full+full+full") - held(
        model__attention="conv+full+full"
    )
    wide = held(task="mqar:length=14,num_pairs=3,vocab_size=4022") - held()
    assert wide % (4 * BATCH * SCORED) == 0 and wide <= 4 * 4 * BATCH * SCORED * 4000  # logits and their like alone
