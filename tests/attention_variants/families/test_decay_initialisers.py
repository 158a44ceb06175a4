"""How learned decays begin: within the ranges of Mamba-2, spread evenly by their logs."""

import jax
import numpy as np

from attention_variants.families.decay_initialisers import draw_log_rate, draw_step_bias


def test_rates_are_spread_from_1_to_16() -> None:
    rates = np.exp(draw_log_rate(jax.random.key(0), (4096,)))
    assert rates.min() >= 1 and rates.max() <= 16 and abs(rates.mean() - 8.5) < 0.3


def test_steps_are_spread_from_a_thousandth_to_a_tenth() -> None:
    steps = np.log(jax.nn.softplus(draw_step_bias(jax.random.key(0), (4096,))))
    assert np.isclose(steps.min(), np.log(0.001), atol=0.01) and np.isclose(steps.max(), np.log(0.1), atol=0.01)
    assert abs(steps.mean() - np.log(0.01)) < 0.1
