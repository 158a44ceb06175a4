"""A run small enough to train in a test, its sizes distinct; and a result, for tests that train nothing."""

from typing import Any

from experiments.analysis.compute import count
from experiments.config.run import Run
from experiments.config.schema import Config

FIELDS = {
    "task": "mqar:length=14,num_pairs=3,vocab_size=22",
    "model.attention": "conv+full",
    "model.model_dim": 12,
    "model.num_heads": 3,
    "train.batch_size": 5,
    "train.steps": 7,
    "train.schedule": "cosine:warmup_steps=2",
    "train.eval_every": 3,
    "eval.batch_size": 8,
    "eval.validation_rows": 13,
    "eval.test_rows": 19,
}
RESULT = {
    "status": "done",
    "test_accuracy": 0.75,
    "validation_accuracy": 0.75,
    "test_loss": 1.0,
    "floor": 0.5,
    "ceiling": 1.0,
    "slices": {},
    "tests": [],
    "task": {
        "name": "mqar",
        "fields": {},
        "train_length": 16.0,
        "tolerance": None,
        "loss_floor": None,
        "slice_labels": {},
    },
    "model": {"layers": 2, "model_dim": 12, "mlp_dim": 0},
    "steps": 6,
    "steps_to_solve": None,
    "compute": {"params": 7, "control_params": 0, "train_flops_executed": 11, "cache_bytes": 13},
    "parameter_hash": "0",
}


def tiny_config(**values: Any) -> Config:
    """Returns the defaults at a tiny size, changed by `section__field=value`."""
    return Config.from_fields(FIELDS | {name.replace("__", "."): value for name, value in values.items()})


def tiny_run(**values: Any) -> Run:
    """Returns the run of `tiny_config`."""
    return Run.read(tiny_config(**values))


def tiny_cost(**values: Any) -> dict[str, int]:
    """Returns what the run of `tiny_config` costs if it takes all its steps."""
    run = tiny_run(**values)
    return count(run, run.train.steps)
