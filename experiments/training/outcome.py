"""The outcome of a run: the fields of its result except those that say which run it is."""

import functools
import hashlib
import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.analysis import compute
from experiments.analysis.receptive_field import slice_ceilings
from experiments.analysis.spending import matched
from experiments.config.run import Run
from experiments.model.streams import TEST, VALIDATION, split_key
from experiments.tasks.registry import task_facts
from experiments.training.evaluation import Evaluation, evaluate
from experiments.training.other_rows import score_other_rows
from experiments.training.step import Program
from experiments.training.unseen_rows import score_unseen_rows

History = list[dict[str, Any]]  # one row of metrics per chunk


class Trained(NamedTuple):
    """How far training went."""

    steps: int
    params: Any  # the last ones
    best: Any  # those of the best validation
    history: History
    diverged_at: int | None  # the step that met NaN or infinity


def result_of(run: Run, program: Program, trained: Trained) -> dict[str, Any]:
    """Tests the best parameters, once, and returns what is known of the run."""
    steps, _, best, history, diverged_at = trained
    validation, test = measure(run, program, best, VALIDATION), measure(run, program, best, TEST)
    timing = {
        name: statistics.median(row[name] for row in history) if history else None
        for name in ("step_ms", "tokens_per_second")
    }
    return {
        "status": "done" if diverged_at is None else "diverged",
        **({} if diverged_at is None else {"diverged_at": diverged_at}),
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "row_accuracy": test.row_accuracy,
        "validation_accuracy": validation.accuracy,
        "validation_loss": validation.loss,
        "slices": with_ceilings(run, test.slices),
        "tests": score_other_rows(run, program, best, split_key(jax.random.key(run.seed), TEST)),
        **score_unseen_rows(run, program, best, steps),
        "steps": steps,
        "steps_to_solve": steps_to_solve(run, history) if diverged_at is None else None,
        "compute": compute.count(run, steps) | {"peak_bytes": program.peak_bytes} | timing,
        "parameter_hash": parameter_hash(trained.params),
        **({} if (match := matched(run)) is None else {"match": match}),
        **facts(run),
    }


def steps_to_solve(run: Run, history: History) -> int | None:
    """Returns the first step whose validation was good enough; None where none was."""
    return next((row["step"] for row in history if row["validation_accuracy"] >= run.train.solved_at), None)


def measure(run: Run, program: Program, params: Any, split: int) -> Evaluation:
    """Evaluates parameters on the rows of a split, VALIDATION or TEST."""
    rows = {VALIDATION: run.eval.validation_rows, TEST: run.eval.test_rows}[split]
    return evaluate(functools.partial(program.reader, params), split_key(jax.random.key(run.seed), split), rows)


def facts(run: Run) -> dict[str, Any]:
    """Returns what a reader of the result must know about task and model."""
    sizes = {"layers": len(run.layers), "model_dim": run.model.model_dim, "mlp_dim": run.model.mlp_dim}
    return {"task": task_facts(run.task), "model": sizes}


def with_ceilings(run: Run, slices: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns slices of the test with the ceiling of every bin."""
    ceilings = slice_ceilings(run, slices)
    return {name: {**item, "ceiling": ceilings[name]} for name, item in slices.items()}


def parameter_hash(params: Any) -> str:
    """Returns the SHA-256 of all parameters, names and shapes included."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
