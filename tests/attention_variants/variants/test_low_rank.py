"""Low-rank variants: where they become full attention, against NumPy written from the papers, masks with gaps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.conformance.inputs import HEADS, expect_close, make_arguments, with_gradients
from attention_variants.module import MultiHeadAttention
from attention_variants.registry import make_variant
from attention_variants.variants.linformer import Projections
from attention_variants.variants.nystrom import pseudo_inverse

pytestmark = pytest.mark.slow  # every test compiles; the laws stand in for them in the quick part


def make_qkv(length: int) -> tuple[Any, Any, Any]:
    """Returns query, key and value: 2 sequences, with the heads of the laws."""
    query, key, value, _ = make_arguments(make_variant("full"), length, batch=2)
    return query, key, value


def parameters(spec: str, num_kv_heads: int = 3) -> dict[str, Any]:
    """Returns the parameters of a variant's controls by name."""
    controls = make_variant(spec).make_controls(11, HEADS._replace(num_kv_heads=num_kv_heads), rngs=nnx.Rngs(0))
    return {str(path[0]): leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(controls, nnx.Param))}


@pytest.mark.parametrize("heads", [1, 3])
def test_linformer_with_identity_projections_is_full_attention(heads: int) -> None:
    arguments = make_qkv(13)
    identity = jnp.broadcast_to(jnp.eye(13)[None, :, None], (1, 13, heads, 13))
    linformer, full = make_variant("linformer:rank=13"), make_variant("full")

    def both(arguments: Any) -> Any:
        projected = linformer(*arguments, causal=False, controls=Projections(identity, identity))
        return projected, full(*arguments, causal=False)

    gradients = jax.grad(lambda arguments, which: (both(arguments)[which] ** 2).sum())
    compiled = jax.jit(lambda arguments: (both(arguments), gradients(arguments, 0), gradients(arguments, 1)))
    outputs, ours, theirs = compiled(arguments)
    np.testing.assert_allclose(*outputs, atol=1e-5)
    for gradient, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-4)


def test_linformer_is_its_equation() -> None:
    """softmax(Q (E K)^T / sqrt(d)) (F V), head by head."""
    query, key, value = (np.asarray(array, np.float64) for array in make_qkv(13))
    random = np.random.RandomState(1)
    e, f = random.standard_normal((2, 1, 13, 3, 4))
    controls = Projections(jnp.asarray(e, jnp.float32), jnp.asarray(f, jnp.float32))
    out = make_variant("linformer:rank=4")(*make_qkv(13), causal=False, controls=controls)
    for head in range(6):
        shared = head // 2
        logits = query[1, :, head] @ (e[0, :, shared].T @ key[1, :, shared]).T / np.sqrt(5)
        weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(out[1, :, head], weights @ (f[0, :, shared].T @ value[1, :, shared]), atol=1e-4)


def test_linformer_shares_as_it_says() -> None:
    shapes = {
        sharing: {name: leaf.shape for name, leaf in parameters(f"linformer:rank=7,max_length=23,{sharing}").items()}
        for sharing in ("sharing=none", "sharing=headwise", "sharing=key_value")
    }
    assert shapes == {
        "sharing=none": {"key": (23, 3, 7), "value": (23, 3, 7)},
        "sharing=headwise": {"key": (23, 1, 7), "value": (23, 1, 7)},
        "sharing=key_value": {"key": (23, 1, 7)},
    }


def test_linformer_projections_belong_to_positions() -> None:
    controls = make_variant("linformer:rank=7,max_length=23").make_controls(11, HEADS, rngs=nnx.Rngs(0))
    short, long = controls(jnp.ones((2, 5, 11))), controls(jnp.zeros((4, 23, 11)))
    for one, other in zip(short, long, strict=True):
        assert one.shape == (1, 5, 1, 7)
        np.testing.assert_array_equal(one, other[:, :5])
    assert not np.array_equal(long.key, long.value)


def test_linformer_names_what_does_not_fit() -> None:
    variant = make_variant("linformer:rank=7,max_length=23")
    controls = variant.make_controls(11, HEADS, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="made for max_length 23; got 29 tokens"):
        controls(jnp.ones((2, 29, 11)))
    with pytest.raises(ValueError, match=r"must begin with \[batch 2 or 1, length 13 or 1\]; .* \(1, 11, 1, 7\)"):
        variant(*make_qkv(13), causal=False, controls=controls(jnp.ones((2, 11, 11))))


@pytest.mark.parametrize("spec", ["linformer:rank=7,max_length=23", "nystrom:num_landmarks=5"])
def test_in_a_layer_padding_is_truncation(spec: str) -> None:
    layer = MultiHeadAttention(make_variant(spec), 12, 6, num_kv_heads=3, rngs=nnx.Rngs(params=0, controls=1))
    x = jnp.asarray(np.random.RandomState(0).standard_normal((2, 13, 12)), jnp.float32)
    key_mask = jnp.broadcast_to(jnp.arange(13) < 8, (2, 13))
    dirty = jnp.where(key_mask[:, :, None], x, jnp.nan)
    padded, short = jax.jit(
        lambda x: (layer(x, causal=False, key_mask=key_mask)[:, :8], layer(x[:, :8], causal=False))
    )(dirty)
    np.testing.assert_allclose(padded, short, atol=1e-5)


@pytest.mark.parametrize("spec", ["linformer", "nystrom"])
def test_what_is_bidirectional_only_has_no_cache(spec: str) -> None:
    with pytest.raises(NotImplementedError, match="is bidirectional only: it has no cache"):
        make_variant(spec).init_cache(2, 8, HEADS, jnp.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_nystrom_is_its_equation() -> None:
    """With equal segments and an exact pseudo-inverse, where the iteration has converged."""
    query, key, value = make_qkv(12)
    query = 8 * jnp.repeat(key, 2, axis=2)  # sharp weights make a matrix far from singular
    out = make_variant("nystrom:num_landmarks=3,num_iterations=12")(query, key, value, causal=False)
    query, key, value = (np.asarray(array, np.float64) for array in (query, key, value))
    for head in range(6):
        q, k, v = query[1, :, head], key[1, :, head // 2], value[1, :, head // 2]
        q_marks, k_marks = (array.reshape(3, 4, 5).mean(1) for array in (q, k))
        left, middle, right = (
            softmax(a @ b.T / np.sqrt(5)) for a, b in ((q, k_marks), (q_marks, k_marks), (q_marks, k))
        )
        np.testing.assert_allclose(out[1, :, head], left @ np.linalg.pinv(middle) @ right @ v, atol=1e-3)


@pytest.mark.parametrize("num_iterations", [6, 12])
@pytest.mark.parametrize("num_landmarks", [8, 37])
@pytest.mark.parametrize("kinds", [1, 2, 3, 17])
def test_nystrom_of_few_kinds_of_token_keeps_its_digits(kinds: int, num_landmarks: int, num_iterations: int) -> None:
    """Its landmarks are nearly equal then; the second iteration count is the largest that is allowed."""
    kind = np.random.RandomState(0).randint(0, kinds, 33)
    kind[:16] = 0  # filler
    query, key, value = make_qkv(33)
    arguments = (query[:, kind], key[:, kind], value)
    variant = make_variant(f"nystrom:num_landmarks={num_landmarks},num_iterations={num_iterations}")

    @jax.jit
    def run(arguments: Any) -> Any:
        cotangent = jnp.ones((2, 33, HEADS.num_heads, HEADS.value_dim), arguments[0].dtype)
        return with_gradients(lambda a: variant(*a, causal=False))(arguments, cotangent)

    low = run(arguments)
    with jax.enable_x64(True):
        high = run(jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), arguments))
    # Rounding grows by 13 / 4 with every step: 12 may leave a tenth of the entries.
    expect_close("(output, gradients) in float32", low, high, {6: 5e-3, 12: 5e-2}[num_iterations])


def test_nystrom_refuses_so_many_iterations_that_rounding_grows() -> None:
    with pytest.raises(ValueError, match="`num_iterations` must be at most 12; got 13"):
        make_variant("nystrom:num_iterations=13")


def test_nystrom_tends_to_full_attention_where_every_token_is_a_landmark() -> None:
    arguments = make_qkv(7)
    arguments = (3 * arguments[0], *arguments[1:])  # sharp weights make a matrix far from singular
    full = make_variant("full")(*arguments, causal=False)
    errors = [
        float(jnp.abs(make_variant(f"nystrom:num_iterations={steps}")(*arguments, causal=False) - full).max())
        for steps in (1, 6, 12)
    ]
    assert errors[0] > 0.1 and errors[2] < 1e-2 and errors == sorted(errors, reverse=True)


def test_the_iteration_tends_to_the_pseudo_inverse() -> None:
    matrix = softmax(2 * np.random.RandomState(0).standard_normal((3, 5, 5)))
    matrix[0, 3:] = 0  # two landmarks that do not exist
    matrix[0, :, 3:] = 0
    matrix[0] /= matrix[0].sum(-1, keepdims=True) + (matrix[0].sum(-1, keepdims=True) == 0)
    found = pseudo_inverse(jnp.asarray(matrix, jnp.float32), 25)
    for one, expected in zip(found, np.linalg.pinv(matrix), strict=True):
        np.testing.assert_allclose(one, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("num_landmarks", [4, 11], ids=["full segments", "fewer tokens than landmarks"])
def test_nystrom_leaves_masked_tokens_out_wherever_they_stand(num_landmarks: int) -> None:
    """A masked token enters no mean, not even as a query: the rest is what it would be without it."""
    variant, kept = make_variant(f"nystrom:num_landmarks={num_landmarks}"), np.array([1, 2, 5, 6, 7, 10, 12])
    key_mask = jnp.asarray(np.isin(np.arange(13), kept))[None].repeat(2, axis=0)
    both = jax.jit(
        lambda *arguments: (
            variant(*arguments, causal=False, key_mask=key_mask)[:, kept],
            variant(*(array[:, kept] for array in arguments), causal=False),
        )
    )
    dirty = (jnp.where(key_mask[:, :, None, None], array, jnp.nan) for array in make_qkv(13))
    np.testing.assert_allclose(*both(*dirty), atol=1e-5)
