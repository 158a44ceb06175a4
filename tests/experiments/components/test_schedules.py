"""Schedules: laws that every registered one keeps, and the shapes of some."""

import jax.numpy as jnp
import pytest

from experiments.components.schedules import SCHEDULES, make_schedule

STEPS, WARMUP = 110, 10
SHAPES = {
    "cosine": {10: 1.0, 60: 0.5, 110: 0.0},
    "linear": {10: 1.0, 60: 0.5, 85: 0.25, 110: 0.0},
    "constant": {10: 1.0, 60: 1.0, 110: 1.0},
    "wsd:decay=0.5": {10: 1.0, 60: 1.0, 85: 0.5, 110: 0.0},
}


def share(spec, step):
    schedule = make_schedule(f"{spec}{',' if ':' in spec else ':'}warmup_steps={WARMUP}")
    return float(schedule.share(jnp.int32(step), STEPS))


@pytest.mark.parametrize("spec", SHAPES)
def test_the_rate_rises_linearly_and_then_takes_its_shape(spec):
    for step, expected in ({0: 0.0, 5: 0.5} | SHAPES[spec]).items():
        assert share(spec, step) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_rises_to_its_peak_and_stays_between_zero_and_the_peak(name):
    shares = [share(name, step) for step in range(STEPS + 1)]
    assert shares[: WARMUP + 1] == pytest.approx([step / WARMUP for step in range(WARMUP + 1)], abs=1e-6)
    assert min(shares) >= 0 and max(shares) <= 1 + 1e-6


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_warm_up_the_rate_starts_at_its_peak(name):
    assert float(make_schedule(f"{name}:warmup_steps=0").share(jnp.int32(0), STEPS)) == 1.0
