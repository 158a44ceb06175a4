"""Made-up run folders, so that tables and reports can be tested without training."""

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attention_variants import specs
from experiments.studies import grid as study
from experiments.tasks.registry import make_task

TASK = "mqar:length=128,num_pairs=8,vocab_size=128"
ENVIRONMENT = {
    "python": "3.11.2",
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
    "flax": "0.12.8",
    "optax": "0.2.8",
    "numpy": "2.4.6",
    "platform": "Linux-x86_64",
    "backend": "cpu",
    "device": "Imaginary CPU @ 2.00GHz",
    "devices": 1,
    "cores": 2,
    "flags": {},
}
# attention: (final accuracy, ceiling, forward FLOPs per token, cache bytes, steps to solve, last visible distance)
KINDS: dict[str, tuple[float, float, float, int, int | None, int]] = {
    "conv+full": (0.998, 1.0, 9e4, 66304, 300, 999),
    "conv+sliding_window:window_size=16": (0.41, 0.42, 7e4, 17152, None, 16),
    "conv+strided_sparse:stride=8": (0.62, 0.66, 7.6e4, 33536, None, 30),
    "conv+bigbird:window_size=8,num_global=2,num_random=2": (0.57, 0.61, 7.9e4, 40000, None, 24),
    "conv+linear": (0.83, 1.0, 6.8e4, 17408, None, 999),
    "conv+sliding_window:window_size=16+linear": (0.97, 1.0, 8.8e4, 34304, 700, 999),
}
# More models than there are colours, most of them real.
CATALOGUE = [
    "conv+full",
    *(f"conv+sliding_window:window_size={2**size}" for size in range(2, 9)),
    *(f"conv+strided_sparse:stride={2**size}" for size in range(1, 5)),
    *(
        f"conv+bigbird:window_size={window},num_global={blocks},num_random={blocks},block_size=8"
        for window in (8, 16, 32)
        for blocks in (1, 2, 3)
    ),
    *(f"conv+linear:chunk_size={2**size}" for size in range(3, 8)),
    *(f"conv+sliding_window:window_size={2**size}+linear" for size in range(2, 8)),
    "conv+named_after_its_paper",
    "conv+another_one:decay=0.5",
]


def kind(attention: str, task: str) -> tuple[float, float, float, int, int | None, int]:
    """Returns the entry of `KINDS`, or else makes one up, the same every time."""
    if attention in KINDS:
        return KINDS[attention]
    rng = random.Random(f"{attention} {task}")
    ceiling = rng.choice([1.0, 1.0, rng.uniform(0.3, 1.0)])
    accuracy = ceiling * rng.choice([0.999, rng.uniform(0.4, 1.0)])
    flops, cache = rng.uniform(6e4, 9.5e4), 2 ** rng.randrange(12, 17) + 256
    return accuracy, ceiling, flops, cache, 100 * rng.randrange(2, 9) if accuracy > 0.99 else None, 999


def write_run(folder: Path, config: dict[str, Any], **changes: Any) -> Path:
    """Writes one ended run of `config` below `folder`; `changes` override fields of its result and environment."""
    attention, seed = config["model"]["attention"], config["seed"]
    accuracy, ceiling, flops, cache, solved, reach = kind(attention, config["task"])
    rng = random.Random(f"{attention} {seed}")
    accuracy = min(1.0, max(0.1, accuracy + rng.gauss(0, 0.012) * (1.02 - accuracy) * 4))
    steps = solved + 100 * rng.randrange(3) if solved else config["train"]["steps"]
    edges = [2, 4, 8, 16, 32, 64, 128]
    per_bin = [min(accuracy * 1.05, 1.0) if edge < reach else 0.125 for edge in edges[:-1]]
    environment = ENVIRONMENT | changes.pop("environment", {})
    result = {
        "run_id": f"{abs(hash((attention, seed, json.dumps(config)))):012x}"[:12],
        "status": "done",
        "config": config,
        "test_accuracy": accuracy,
        "validation_accuracy": accuracy - 0.002,
        "test_loss": 3 * (1 - accuracy),
        "floor": 0.125,
        "ceiling": ceiling,
        "slices": {
            "distance": {"edges": edges, "accuracy": per_bin, "count": [700, 600, 500, 400, 300, 200]},
            "num_pairs": {"values": [8], "accuracy": [accuracy], "count": [2700]},
        },
        "steps": steps,
        "steps_to_solve": steps if solved else None,
        "compute": {
            "params": 33_920,
            "control_params": 132 if "linear" in attention else 0,
            "train_flops_executed": 3.0 * flops * 128 * 64 * steps,
            "train_flops_ideal": 2.6 * flops * 128 * 64 * steps,
            "forward_flops_per_token": flops,
            "peak_bytes": 31_000_000 + 200 * flops,
            "step_ms": 40 + flops / 4e3 + rng.random(),
            "tokens_per_second": 128 * 64 / (40 + flops / 4e3) * 1e3,
            "cache_bytes": cache,
        },
        "parameter_hash": "0" * 64,
        "environment": environment,
    } | changes
    path = folder / result["run_id"]
    path.mkdir(parents=True)
    manifest = {
        "version": "1.1",
        "environment": environment,
        "command": "python -m experiments.run --config=configs/toy.py",
        "date": "2026-01-02T03:04:05+00:00",
    }
    lines = []
    for step in range(100, steps + 1, 100):
        progress = 1 / (1 + math.exp(-(step - 0.55 * steps) / (0.1 * steps)))
        score = 0.125 + (accuracy - 0.125) * progress
        losses = {"train_loss": 2 - score, "validation_loss": 2 - score}
        lines.append({"step": step, "validation_accuracy": score, **losses})
    for name, value in (("config", config), ("manifest", manifest), ("result", result)):
        (path / f"{name}.json").write_text(json.dumps(value))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_study(
    folder: Path,
    kinds: Iterable[str] = KINDS,
    seeds: int = 3,
    tasks: Sequence[str] = (TASK,),
    positions: Sequence[str] = ("none",),
    beyond: bool = False,
    **fields: Any,
) -> Path:
    """Writes a whole study below `folder`; `beyond` adds tests `beyond_training`, `fields` set config keys."""
    config = study.complete(fields, "fake")
    for task, attention, position, seed in itertools.product(tasks, kinds, positions, range(seeds)):
        model = config["model"] | {"attention": attention, "position": position}
        cell = config | {"task": task, "model": model, "seed": seed}
        write_run(folder, cell, **(beyond_training(cell) if beyond else {}))
    return folder


def beyond_training(config: dict[str, Any]) -> dict[str, Any]:
    """Returns made-up results of tests at further lengths and on shifted tasks, and by slices of several bins."""
    attention, task = config["model"]["attention"], make_task(config["task"])
    accuracy, ceiling, *_ = kind(attention, config["task"])
    rng = random.Random(f"{attention} {config['seed']}")
    fall = random.Random(f"{attention} {config['model']['position']}").uniform(0.5, 0.95) + rng.uniform(0.0, 0.01)

    def score(worse: int) -> dict[str, float]:
        return {"accuracy": accuracy * fall**worse, "loss": 1.0, "floor": 0.125 / worse, "ceiling": ceiling}

    shifted = [specs.format_spec("mqar", dataclasses.replace(task, num_pairs=pairs)) for pairs in (2, 16)]
    tenths = [accuracy * (0.6 + 0.4 * abs(place - 4.5) / 4.5) + rng.uniform(-0.02, 0.0) for place in range(10)]
    return {
        "lengths": {str(task.length * 2**times): score(times) for times in (1, 2, 3)},
        "shifted": {spec: score(worse) for worse, spec in enumerate(shifted, 1)},
        "slices": {
            "depth": {"values": list(range(10)), "accuracy": tenths, "count": [100] * 10},
            "length": {"edges": [0, 1, 2, 4, 8, 16, 32], "accuracy": [None, *tenths[:5]], "count": [0, *[50] * 5]},
            "num_pairs": {"values": [8], "accuracy": [accuracy], "count": [1000]},
            "distance": {"values": [1, 2], "accuracy": [accuracy, accuracy / 2], "count": [500, 500]},
        },
    }
