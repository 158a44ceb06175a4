"""Several runs trained as one: those that share a compiled program, such as the seeds of a cell, a lane each.

One program takes the steps of all lanes (`jax.vmap`); whatever happens between chunks of steps happens to each run by
itself. A lane whose run has ended, or is elsewhere, is computed and discarded: the number of lanes, and which run
has which, follow from the study, so that a run goes on with the same bits after an interruption.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.config.run import Run
from experiments.training.course import Course, Folder, Report, Source, Steps, Stopwatch
from experiments.training.step import compile_together, initial_state


class Lane(NamedTuple):
    """One of the runs; the fields are arguments of `loop.train`."""

    run: Run
    folder: Folder | None = None
    report: Report | None = None
    source: Source | None = None


def train_together(
    lanes: Sequence[Lane | None],
    ended: Callable[[int, dict[str, Any] | Exception], None],
    saved: Callable[[], None] = lambda: None,
) -> None:
    """Trains runs that differ only in what is not compiled in, such as their seeds; each as `loop.train` would.

    Initial parameters, rows and order are those of each run alone, bit for bit; its losses agree up to rounding. A run
    that is solved, diverges or fails leaves the others alone. Times and peak memory are each run's share.

    Args:
      lanes: all runs that belong together, at least one of them given; None: not trained here, its lane is empty.
      ended: called with the number of a lane, and its result or what ended it, as soon as its run is over. What it
        raises ends all runs.
      saved: called after every chunk, when the checkpoints of all runs are written.
    """
    together = _Together(lanes, ended)
    while together.advance():
        saved()


class _Together:
    """The courses of the runs that are not over, by the numbers of their lanes."""

    def __init__(self, lanes: Sequence[Lane | None], ended: Callable[[int, dict[str, Any] | Exception], None]) -> None:
        """Begins all runs."""
        present = {place: lane for place, lane in enumerate(lanes) if lane is not None}
        first = next(iter(present.values())).run
        self._ended, self._watch = ended, Stopwatch()
        self._timers = {place: self._watch.start() for place in present}
        self._program = compile_together(first, len(lanes))
        self._courses: dict[int, Course] = {}
        self._runs = [first if lane is None else lane.run for lane in lanes]
        for place, lane in present.items():
            self._each(place, functools.partial(self._begin, place, lane))
        spare = initial_state(first)  # what empty lanes compute with
        self._states = [jax.tree.map(jnp.copy, spare) for _ in lanes]

    def advance(self) -> bool:
        """Takes a chunk of steps of every run; returns False if no run is left.

        The time of a lane's step is an equal share of the time of all steps that were taken.
        """
        courses = dict(self._courses)
        if not courses:
            return False
        before = {place: course.step for place, course in courses.items()}
        for place, course in courses.items():
            self._states[place] = course.state
        stops = [courses[place].stop if place in courses else 0 for place in range(len(self._runs))]
        started = time.perf_counter()
        self._states, losses, finite = self._program.advance_together(self._runs, self._states, stops)
        seconds = time.perf_counter() - started
        taken = sum(int(self._states[place].step) - before[place] for place in courses)
        for place, course in courses.items():
            steps = Steps(self._states[place], losses[place], finite[place], seconds / taken)
            self._each(place, functools.partial(course.take, steps))
        return True

    def _begin(self, place: int, lane: Lane) -> None:
        timer = self._timers[place]
        self._courses[place] = Course(lane.run, self._program, timer, lane.folder, lane.report, lane.source)

    def _each(self, place: int, act: Callable[[], None]) -> None:
        """Acts on one run, which is over if that raises, or if nothing is left to do."""
        outcome: dict[str, Any] | Exception | None = None
        try:
            act()
            if self._courses[place].over:
                outcome = self._courses[place].result()
        except Exception as error:
            outcome = error
        if outcome is not None:
            self._courses.pop(place, None)
            self._watch.end(self._timers[place])
            self._ended(place, outcome)
