"""How decoding is timed: in what order, and which call counts."""

import types

import jax
import jax.numpy as jnp

from experiments.decoding import measures


class Recorder:
    """A decoder that says when it is called, and moves a clock instead of computing."""

    prompt = 3

    def __init__(self, calls, clock, name, prefill):
        self.calls, self.clock, self.name, self.seconds = (
            calls,
            clock,
            name,
            {"prefill": prefill, "proceed": [9.0, 4.0]},
        )

    def prefill(self, rows, rng):
        self.calls.append(f"{self.name} prefill")
        self.clock.now += self.seconds["prefill"]
        return jnp.zeros(())

    def proceed(self, first, rows, rng):
        self.calls.append(f"{self.name} proceed")
        self.clock.now += self.seconds["proceed"][self.calls.count(f"{self.name} proceed") % 2 == 0]
        return jnp.zeros(())


def test_steps_are_timed_behind_steps_and_a_long_prompt_is_read_once(monkeypatch):
    calls, clock = [], types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(measures.time, "perf_counter", lambda: clock.now)
    rows = types.SimpleNamespace(tokens=jnp.zeros((1, 5)))
    decoders = {name: (Recorder(calls, clock, name, prefill), rows) for name, prefill in (("a", 0.25), ("b", 7.0))}
    found = measures.take_turns(decoders, jax.random.key(0), repeats=2)
    turn = ["a prefill", "a prefill", "a proceed", "a proceed", "b prefill", "b proceed", "b proceed"]
    assert calls == [*turn, *(call for call in turn if call != "b prefill")]
    assert found["a"] == (0.25, 4.0 / 2) and found["b"] == (7.0, 4.0 / 2), "the untimed call takes 9 s"
