"""The bias of forget gates."""

import jax
import jax.numpy as jnp
import numpy as np

from attention_variants.biases.forget import forget_bias


def test_sums_of_log_gates_keep_their_digits() -> None:
    """4000 strong gates, then weak ones: sums reach -28000, where float32 is 0.002 apart."""
    log_gate = np.log(np.where(np.arange(4096) < 4000, 0.001, 1 - 1e-4)).astype(np.float32)
    positions = jnp.array([0, 17, 3000, 3998, 3999, 4000, 4001, 4050, 4095])
    block = jax.jit(lambda gates: forget_bias(gates, group=2).block(positions, positions))(log_gate[None, :, None])
    exact = np.cumsum(log_gate.astype(np.float64))[np.asarray(positions)]
    seen = np.tril(np.ones((9, 9), bool))
    np.testing.assert_allclose(np.asarray(block)[0, 1][seen], (exact[:, None] - exact[None])[seen], 1e-6, 1e-8)


def test_closed_gates_hide_what_came_before_and_no_more() -> None:
    log_gate = np.random.RandomState(0).uniform(-2, 0, 64).astype(np.float32)
    log_gate[[0, 20, 21, 50]] = -np.inf
    positions = jnp.arange(64)
    block = jax.jit(lambda gates: forget_bias(gates, group=1).block(positions, positions))(log_gate[None, :, None])
    exact = np.array(
        [[log_gate[key + 1 : query + 1].astype(np.float64).sum() for key in range(64)] for query in range(64)]
    )
    seen = np.tril(np.ones((64, 64), bool))
    np.testing.assert_allclose(np.asarray(block)[0, 0][seen], exact[seen], 1e-5, 1e-5)
