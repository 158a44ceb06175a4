"""`train.dtype=bfloat16`: products are in bfloat16; parameters, softmax, norms, states and losses stay in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.registry import VARIANTS, example_spec
from experiments.analysis.memory import least_bytes
from experiments.decoding.session import TOLERANCES, Session
from experiments.inspection.maps import look
from experiments.model import layers, transformer
from experiments.model.objective import gradient_step, mean_loss, read_batch
from experiments.model.transformer import abstract_model, make_model
from experiments.training import loop, step
from tests.experiments.tiny import tiny_run

HALF = jnp.dtype(jnp.bfloat16)
# What loses its digits in bfloat16: exponentials and logarithms, roots, and sums over tokens, keys or channels.
IN_FLOAT32 = {"exp", "exp2", "log", "log1p", "rsqrt", "sqrt", "cumsum", "reduce_sum", "reduce_max", "div", "sin", "cos"}
# In gradients, sums over tokens of what bfloat16 computed: XLA adds them up in float32 by itself.
SUMS = {"reduce_sum"}


def half(**values):
    return tiny_run(train__dtype="bfloat16", **({"model__mlp_dim": 17} | values))


def of_variant(name):
    ways = not VARIANTS[name].supports_causal
    spec = f"conv+{example_spec(name, 16)}"
    return dict(model__attention=spec, model__layer="paper", model__bidirectional=ways)


CASES = {name: of_variant(name) for name in VARIANTS} | {
    "recurrent networks": dict(model__attention="lstm+gru"),
    "a context": dict(task="translation", model__attention="full", model__position="alibi"),
    "numbers": dict(task="adding:length=14", model__attention="conv+full", model__readout="mean"),
    "an answer from one vector": dict(task="compression"),
    "layer norm, T5, tied": dict(model__norm="layer", model__position="t5", model__tied_embeddings=True),
    "learned positions": dict(model__position="learned"),
    "rotary positions": dict(model__position="rope", model__qk_norm=True),
}
ALWAYS = ("full", "linear", "gated_delta", "recurrent networks", "a context", "numbers", "layer norm, T5, tied")


def equations(jaxpr):
    """Yields every equation, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def dtypes(variables):
    return {variable.aval.dtype for variable in variables}


def carried(scan):
    """Returns what a loop hands on: its results that are not stacked. How many these are JAX says by version."""
    inner = scan.params["jaxpr"].jaxpr.outvars
    return [whole for whole, one in zip(scan.outvars, inner, strict=True) if whole.aval.shape == one.aval.shape]


def in_half(jaxpr):
    """Returns which of the operations that float32 is for have an argument in bfloat16, and loops that carry one."""
    found = {e.primitive.name for e in equations(jaxpr) if HALF in dtypes(e.invars)} & IN_FLOAT32
    for equation in equations(jaxpr):
        if equation.primitive.name == "scan":
            if HALF in dtypes(carried(equation)):
                found.add("carry")
    return found


def traced(run):
    graph, params = abstract_model(run)
    batch = jax.eval_shape(lambda: run.task.training_batch(run.task.sample(jax.random.key(0), 5)))
    with jax.numpy_dtype_promotion("strict"):  # nothing leaves bfloat16 unless it is said
        forward = jax.make_jaxpr(lambda params, batch: mean_loss(read_batch(run, graph, params, batch)))(params, batch)
    backward = jax.make_jaxpr(lambda params, batch: gradient_step(run, graph, params, batch))(params, batch)
    return forward.jaxpr, backward.jaxpr


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow) for name in CASES]
)
def test_what_is_kept_in_float32(name):
    run = half(**CASES[name])
    forward, backward = traced(run)
    assert in_half(forward) == set() and in_half(backward) <= SUMS
    for leaf in jax.tree.leaves(step.abstract_state(run)):  # parameters and moments
        assert leaf.dtype != HALF
    assert dtypes(forward.outvars) == {jnp.dtype(jnp.float32)}, "the loss"
    assert HALF not in dtypes(backward.outvars), "the gradient of every parameter"
    products = [dtypes(e.invars) for e in equations(forward) if e.primitive.name == "dot_general"]
    assert sum(each == {HALF} for each in products) >= 4, "projections, MLP and unembedding are in bfloat16"


def test_float32_has_no_bfloat16():
    for jaxpr in traced(tiny_run(model__attention="conv+full", model__mlp_dim=17)):
        assert not any(HALF in dtypes((*e.invars, *e.outvars)) for e in equations(jaxpr))


def norm_in_half(patch):
    """As `rms_normalised` was before there was a dtype."""
    patch.setattr(
        transformer, "rms_normalised", lambda x: x * jax.lax.rsqrt(jnp.mean(jnp.square(x.astype(HALF)), -1)[..., None])
    )


def promoted(patch):
    """Flax's own layer computes in the wider of its dtypes."""
    patch.setattr(layers, "linear", lambda *sizes, use_bias: nnx.Linear(*sizes[:2], rngs=sizes[2]))


@pytest.mark.parametrize("plant, says", [(norm_in_half, "rsqrt|Input dtypes"), (promoted, "Input dtypes")])
def test_a_planted_bug_is_caught(plant, says, monkeypatch):
    plant(monkeypatch)
    transformer._abstract_model.cache_clear()
    with pytest.raises((AssertionError, ValueError), match=says):
        test_what_is_kept_in_float32("full")
    transformer._abstract_model.cache_clear()


@pytest.mark.slow
def test_a_training_in_bfloat16_learns(optimized):
    sizes = dict(model__model_dim=32, model__num_heads=2, train__batch_size=32, train__learning_rate=0.01)
    steps = dict(train__steps=250, train__eval_every=50, eval__test_rows=256)
    run = half(task="induction:length=16,vocab_size=8", **sizes, **steps)
    result = loop.train(run)
    assert result["test_accuracy"] > 0.99 > result["floor"] + 0.5


@pytest.mark.parametrize("attention", ["conv+sliding_window:window_size=4+linear", "lstm+full"])
def test_decoding_in_bfloat16_is_the_parallel_pass(attention):
    run = half(model__attention=attention, model__short_conv=3, model__position="rope")
    found = Session(run=run, model=nnx.merge(*make_model(run)), tolerance=TOLERANCES["bfloat16"]).on_rows(2)
    assert 1e-5 < found.difference.relative < TOLERANCES["bfloat16"], "rounded, and no more than that"


def test_maps_of_a_model_in_bfloat16_are_float32():
    run = half()
    seen = look(nnx.merge(*make_model(run)), run.task.sample(jax.random.key(0), 2))
    assert {array.dtype for array in (seen.logits, seen.maps[0].weights, seen.maps[0].values)} == {np.dtype("float32")}


def test_a_stream_in_bfloat16_takes_half_of_the_memory():
    wide, narrow = (
        least_bytes(tiny_run(train__batch_size=2**14, train__dtype=dtype)) for dtype in ("float32", "bfloat16")
    )
    assert 0.5 < narrow / wide < 0.51
