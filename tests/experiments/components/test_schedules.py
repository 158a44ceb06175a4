"""Schedules: their shapes after a warm-up."""

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
def test_without_warm_up_the_rate_starts_at_its_peak(name):
    assert float(make_schedule(f"{name}:warmup_steps=0").share(jnp.int32(0), STEPS)) == 1.0
    assert name in {spec.partition(":")[0] for spec in SHAPES}
