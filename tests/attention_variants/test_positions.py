"""Position encodings: what each one adds or rotates, and the errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants import specs
from attention_variants.positions import (
    POSITIONS,
    LearnedPosition,
    NoPosition,
    RotaryPosition,
    SinusoidalPosition,
    make_position,
)

BATCH, LENGTH, HEADS, DIM = 2, 7, 3, 10
EFFECTS = {  # (adds at the input, rotates); the others act on logits or not at all
    "sinusoidal": (True, False),
    "learned": (True, False),
    "rope": (False, True),
    "randomized": (False, True),
}


def _heads(seed: int = 0, dtype: object = jnp.float32) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (BATCH, LENGTH, HEADS, DIM)).astype(dtype)


def _stream() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (BATCH, LENGTH, DIM))


def _table(position: object, size: int = 11) -> nnx.Module | None:
    return position.make_table(DIM, size, rngs=nnx.Rngs(params=3))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(POSITIONS))
def test_positions_per_row_equal_shared_positions(name: str) -> None:
    position = make_position(name)
    table, shared = _table(position), jnp.arange(LENGTH)
    per_row = jnp.broadcast_to(shared, (BATCH, LENGTH))
    np.testing.assert_array_equal(
        position.add(_stream(), shared, table), position.add(_stream(), per_row, table), strict=True
    )
    np.testing.assert_array_equal(position.rotate(_heads(), shared), position.rotate(_heads(), per_row), strict=True)


@pytest.mark.parametrize("name", sorted(POSITIONS))
def test_rows_at_their_own_positions(name: str) -> None:
    """Row b at positions p_b equals that row alone at p_b: decoding at an offset is the same function."""
    position = make_position(name)
    table, positions = _table(position), jnp.stack([jnp.arange(LENGTH), jnp.arange(LENGTH) + 4])
    added, rotated = position.add(_stream(), positions, table), position.rotate(_heads(), positions)
    for row in range(BATCH):
        one = slice(row, row + 1)
        np.testing.assert_allclose(added[one], position.add(_stream()[one], positions[row], table), rtol=1e-6)
        np.testing.assert_allclose(rotated[one], position.rotate(_heads()[one], positions[row]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", sorted(POSITIONS))
def test_each_acts_in_one_place(name: str) -> None:
    position, positions = make_position(name), jnp.arange(1, LENGTH + 1)
    adds = not np.array_equal(position.add(_stream(), positions, _table(position)), _stream())
    rotates = not np.array_equal(position.rotate(_heads(), positions), _heads())
    assert (adds, rotates) == EFFECTS.get(name, (False, False))
    assert (_table(position) is None) == (name != "learned")
    assert (position.make_bias(HEADS, rngs=nnx.Rngs(params=3)) is not None) == (name in ("alibi", "t5"))


def test_rope_is_the_complex_rotation() -> None:
    """Against the definition: coordinates i and i + d/2 are one complex number, turned by p * base^(-2i/d)."""
    positions, base = np.array([0, 1, 5, 2, 40, 3, 900]), 500.0
    x = np.asarray(_heads(), np.float64)
    turn = np.exp(1j * positions[:, None] * base ** (-2.0 * np.arange(DIM // 2) / DIM))[None, :, None, :]
    expected = (x[..., : DIM // 2] + 1j * x[..., DIM // 2 :]) * turn
    got = np.asarray(RotaryPosition(base=base).rotate(_heads(), jnp.asarray(positions)))
    np.testing.assert_allclose(got, np.concatenate([expected.real, expected.imag], -1), atol=2e-4)


@pytest.mark.parametrize(("fraction", "rotated"), [(0.01, 2), (0.4, 4), (0.8, 8), (1.0, 10)])
def test_partial_rope_leaves_the_last_coordinates_alone(fraction: float, rotated: int) -> None:
    x, positions = _heads(), jnp.arange(LENGTH) + 1
    turned = RotaryPosition(fraction=fraction).rotate(x, positions)
    np.testing.assert_array_equal(turned[..., rotated:], x[..., rotated:])
    np.testing.assert_array_equal(turned[..., :rotated], RotaryPosition().rotate(x[..., :rotated], positions))
    assert (turned[..., :rotated] != x[..., :rotated]).any(axis=(0, 1, 2)).all()


def test_randomized_positions_are_sorted_distinct_and_cover_the_range() -> None:
    position = make_position("randomized:max_length=13")
    np.testing.assert_array_equal(position.draw(LENGTH), np.arange(LENGTH))
    draws = np.stack([position.draw(LENGTH, jax.random.key(seed)) for seed in range(40)])
    assert (np.diff(draws) > 0).all() and draws.min() == 0 and draws.max() == 12
    assert set(draws.ravel().tolist()) == set(range(13)) and len(np.unique(draws, axis=0)) > 30
    np.testing.assert_array_equal(position.draw(13, jax.random.key(0)), np.arange(13))
    for needs_more in (lambda: position.draw(14), lambda: position.make_table(DIM, 14, rngs=nnx.Rngs(0))):
        with pytest.raises(ValueError, match="need `max_length` >= 14, the length; got 13"):
            needs_more()


@pytest.mark.parametrize("encoding", ["sinusoidal", "learned", "rope"])
def test_randomized_positions_are_those_of_the_encoding(encoding: str) -> None:
    position, inner = make_position(f"randomized:encoding={encoding},max_length=11"), make_position(encoding)
    table, positions = _table(position, LENGTH), position.draw(LENGTH, jax.random.key(5))
    np.testing.assert_array_equal(position.add(_stream(), positions, table), inner.add(_stream(), positions, table))
    np.testing.assert_array_equal(position.rotate(_heads(), positions), inner.rotate(_heads(), positions))


def test_rope_products_depend_on_distance_alone() -> None:
    rope = RotaryPosition()
    logits = [
        jnp.einsum("bqhd,bkhd->bhqk", *(rope.rotate(_heads(seed), jnp.arange(LENGTH) + shift) for seed in (0, 1)))
        for shift in (0, 53)
    ]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-4)


def test_parts_of_a_head_turn_alike() -> None:
    """Each by itself, from the highest frequency on: what is in one part turns as it does in a head of that size."""
    positions, rope, x = jnp.arange(LENGTH), RotaryPosition(), jnp.concatenate([_heads(), _heads()], axis=-1)
    turned = rope.rotate_parts(x, positions, 2)
    for part in jnp.split(turned, 2, axis=-1):
        np.testing.assert_array_equal(part, rope.rotate(_heads(), positions))
    assert not np.array_equal(turned, rope.rotate(x, positions))


def test_rope_turns_in_float32_whatever_the_input() -> None:
    """At position 3001 a bfloat16 angle would be off by several turns; the low-precision error is the input's alone."""
    positions = jnp.full((LENGTH,), 3001)
    x = _heads(dtype=jnp.bfloat16)
    low, high = RotaryPosition().rotate(x, positions), RotaryPosition().rotate(x.astype(jnp.float32), positions)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_array_equal(low, high.astype(jnp.bfloat16))


def test_sinusoidal_is_the_published_formula() -> None:
    added = SinusoidalPosition().add(jnp.zeros((1, 5, 6)), jnp.arange(5), None)
    for p in range(5):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            np.testing.assert_allclose(added[0, p, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)


def test_learned_adds_its_rows_and_gets_their_gradient() -> None:
    position, table = LearnedPosition(), _table(LearnedPosition())
    np.testing.assert_array_equal(
        position.add(jnp.zeros((1, 3, DIM)), jnp.array([4, 0, 10]), table)[0],
        table.embedding[...][jnp.array([4, 0, 10])],
    )
    graph, params = nnx.split(table)
    gradient = jax.grad(lambda p: position.add(_stream(), jnp.arange(LENGTH), nnx.merge(graph, p)).sum())(params)
    expected = np.where(np.arange(11)[:, None] < LENGTH, float(BATCH), 0.0)
    np.testing.assert_array_equal(gradient["embedding"][...], np.broadcast_to(expected, (11, DIM)))


def test_learned_past_its_table() -> None:
    position, table = LearnedPosition(), _table(LearnedPosition(), size=LENGTH + 1)
    with pytest.raises(ValueError, match=r"made for 8 tokens, 0 to 7; got position 8"):
        position.add(_stream(), jnp.arange(2, LENGTH + 2), table)
    with pytest.raises(ValueError, match="made for 8 tokens"):
        position.add(_stream(), jnp.arange(LENGTH) - 1, table)
    traced = jax.jit(lambda x, p: position.add(x, p, table))(_stream(), jnp.arange(2, LENGTH + 2))
    assert np.isnan(traced[:, -1]).all() and np.isfinite(traced[:, :-1]).all()
    with pytest.raises(ValueError, match="need the `table`"):
        position.add(_stream(), jnp.arange(LENGTH), None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rop", r"unknown position encoding 'rop'; valid choices, nearest first: rope"),
        ("rope:bas=2", r"unknown field of position encoding 'rope': 'bas'; valid choices, nearest first: base"),
        ("rope:base=0.5", r"`base` must be a number in \[1.0, 1000000000.0\]; got 0.5"),
        ("rope:fraction=1.5", r"`fraction` must be a number in \[1e-06, 1.0\]; got 1.5"),
        ("t5:num_buckets=3", r"`num_buckets` must be an integer >= 4; got 3"),
        ("t5:max_distance=31", r"`max_distance` must be an integer >= 32; got 31"),
        ("randomized:encoding=rop", r"`encoding` must be one of .*got 'rop'"),
        ("rope:base=nan", r"`base` must be a finite number; got 'nan'"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(specs.SpecError, match=message):
        make_position(spec)


def test_specs_and_equality() -> None:
    assert make_position("rope:base=500") == RotaryPosition(base=500.0)
    assert hash(make_position("none")) == hash(NoPosition())


def test_odd_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="even dimension; got 5"):
        RotaryPosition().rotate(jnp.ones((1, 2, 3, 5)), jnp.arange(2))
