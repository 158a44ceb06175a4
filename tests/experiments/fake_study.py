"""Made-up run folders, so that tables and reports can be tested without training."""

import argparse
import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from attention_variants import specs
from experiments.config.schema import Config

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
HYBRID = "conv+sliding_window:window_size=16+linear"  # has three layers where the others have two
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
_GUESS = 0.125
_EDGES = [2, 4, 8, 16, 32, 64, 128]
_FIELDS: dict[str, dict[str, Any]] = {  # of tasks, with their defaults
    "mqar": {"length": 64, "num_pairs": 4, "vocab_size": 128, "power": 0.01, "random_fillers": False},
    "adding": {"length": 64},
    "needle": {"length": 64},
    "dyck": {"length": 64},
    "induction": {"length": 64, "vocab_size": 64},
    "selective_copying": {"length": 64, "num_tokens": 8},
}
_LABELS = {
    "needle": {"depth": "depth of the needle, in tenths of the context"},
    "dyck": {"depth": "nesting depth"},
}


def kind(attention: str, task: str) -> tuple[float, float, float, int, int | None, int]:
    """Returns the entry of `KINDS`, or else makes one up, the same every time."""
    if attention in KINDS:
        return KINDS[attention]
    rng = random.Random(f"{attention} {task}")
    ceiling = rng.choice([1.0, 1.0, rng.uniform(0.3, 1.0)])
    accuracy = ceiling * rng.choice([0.999, rng.uniform(0.4, 1.0)])
    flops, cache = rng.uniform(6e4, 9.5e4), 2 ** rng.randrange(12, 17) + 256
    return accuracy, ceiling, flops, cache, 100 * rng.randrange(2, 9) if accuracy > 0.99 else None, 999


def task_facts(spec: str) -> dict[str, Any]:
    """Returns what a result records about a task."""
    name, texts = specs.parse_spec(spec)
    given = {key: float(text) if "." in text else int(text) if text.isdigit() else text for key, text in texts.items()}
    fields = _FIELDS.get(name, {}) | given
    numbers = name == "adding"
    return {
        "name": name,
        "fields": fields,
        "train_length": float(fields.get("length", 64)),
        "tolerance": 0.04 if numbers else None,
        "loss_floor": 1 / 6 if numbers else None,
        "slice_labels": {
            "distance": "tokens back to the answer",
            "length": "length of the string",
            **_LABELS.get(name, {}),
        },
    }


def config_of(attention: str, seed: int = 0, task: str = TASK, **train: Any) -> dict[str, Any]:
    """Returns a whole config with these fields."""
    config = Config.from_nested({"model": {"attention": attention}, "train": train, "task": task}).nested()
    return config | {"seed": seed}


def write_run(folder: Path, config: dict[str, Any], **changes: Any) -> Path:
    """Writes one ended run of `config` below `folder`.

    `changes` override fields of its result and environment; None leaves a field of the result out.
    """
    attention, seed = config["model"]["attention"], config["seed"]
    accuracy = kind(attention, config["task"])[0]
    rng = random.Random(f"{attention} {seed}")
    accuracy = min(1.0, max(0.1, accuracy + rng.gauss(0, 0.012) * (1.02 - accuracy) * 4))
    environment = ENVIRONMENT | changes.pop("environment", {})
    left_out = [name for name in ("cell", "task", "model") if name in changes and changes[name] is None]
    result = _result(config, accuracy, rng) | {"environment": environment} | changes
    result = {name: value for name, value in result.items() if name not in left_out}
    path = folder / result["run_id"]
    path.mkdir(parents=True)
    manifest = {
        "version": "1.1",
        "environment": environment,
        "command": "python -m experiments.run --config=configs/toy.py",
        "date": "2026-01-02T03:04:05+00:00",
    }
    for name, value in (("config", config), ("manifest", manifest), ("result", result)):
        (path / f"{name}.json").write_text(json.dumps(value))
    lines = _metrics(accuracy, result["steps"])
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_study(
    folder: Path,
    kinds: Iterable[str] = KINDS,
    seeds: int = 3,
    tasks: Sequence[str] = (TASK,),
    positions: Sequence[str] = ("none",),
    other_rows: bool = False,
    **fields: Any,
) -> Path:
    """Writes a whole study below `folder`; `other_rows` adds tests on such, `fields` set config keys."""
    config = Config.from_nested(fields).nested()
    for task, attention, position, seed in itertools.product(tasks, kinds, positions, range(seeds)):
        model = config["model"] | {"attention": attention, "position": position}
        cell = config | {"task": task, "model": model, "seed": seed}
        write_run(folder, cell, **(with_other_rows(cell) if other_rows else {}))
    return folder


def score(kind: str, value: str, accuracy: float, **changes: Any) -> dict[str, Any]:
    """Returns a made-up test on other rows."""
    length = sum(map(float, ends := value.split("-"))) / len(ends) if kind == "length" else None
    label = f"at {value}" if kind == "length" else value
    bounds = {"floor": 0.1, "ceiling": 1.0}
    return {"kind": kind, "value": value, "label": label, "length": length, "accuracy": accuracy, "loss": 1.0} | (
        bounds | changes
    )


def with_other_rows(config: dict[str, Any]) -> dict[str, Any]:
    """Returns made-up results of tests on other rows, and by slices of several bins."""
    attention, facts = config["model"]["attention"], task_facts(config["task"])
    accuracy, ceiling, *_ = kind(attention, config["task"])
    rng = random.Random(f"{attention} {config['seed']}")
    fall = random.Random(f"{attention} {config['model']['position']}").uniform(0.5, 0.95) + rng.uniform(0.0, 0.01)

    def worse(steps: int) -> dict[str, float]:
        return {"accuracy": accuracy * fall**steps, "floor": _GUESS / steps, "ceiling": ceiling}

    length = facts["fields"]["length"]
    lengths = [score("length", str(length * 2**steps), **worse(steps)) for steps in (1, 2, 3)]
    shifted = [
        score("shifted", f"mqar:length={length},num_pairs={pairs}", **worse(steps), label=f"num_pairs={pairs}")
        for steps, pairs in enumerate((2, 16), 1)
    ]
    tenths = [accuracy * (0.6 + 0.4 * abs(place - 4.5) / 4.5) + rng.uniform(-0.02, 0.0) for place in range(10)]
    rising = [ceiling + (1 - ceiling) * place / 9 for place in range(10)]
    return {
        "tests": [*lengths, *shifted],
        "slices": {
            "depth": {"values": list(range(10)), "accuracy": tenths, "count": [100] * 10, "ceiling": rising},
            "length": {"edges": [0, 1, 2, 4, 8, 16, 32], "accuracy": [None, *tenths[:5]], "count": [0, *[50] * 5]},
            "num_pairs": {"values": [8], "accuracy": [accuracy], "count": [1000], "ceiling": [ceiling]},
            "distance": {"values": [1, 2], "accuracy": [accuracy, accuracy / 2], "count": [500, 500]},
        },
    }


def _result(config: dict[str, Any], accuracy: float, rng: random.Random) -> dict[str, Any]:
    attention, seed = config["model"]["attention"], config["seed"]
    _, ceiling, flops, cache, solved, reach = kind(attention, config["task"])
    steps = solved + 100 * rng.randrange(3) if solved else config["train"]["steps"]
    seen = [edge < reach for edge in _EDGES[:-1]]
    cell = {key: value for key, value in config.items() if key not in ("name", "seed", "study")}
    return {
        "run_id": _digest(config),
        "status": "done",
        "config": config,
        "cell": _digest(cell),
        "task": task_facts(config["task"]),
        "model": {
            "layers": config["model"]["num_layers"] or len(specs.split_layers(attention)),
            "model_dim": config["model"]["model_dim"],
            "mlp_dim": config["model"]["mlp_dim"],
        },
        "test_accuracy": accuracy,
        "validation_accuracy": accuracy - 0.002,
        "test_loss": 3 * (1 - accuracy),
        "floor": _GUESS,
        "ceiling": ceiling,
        "slices": {
            "distance": {
                "edges": _EDGES,
                "accuracy": [min(accuracy * 1.05, 1.0) if inside else _GUESS for inside in seen],
                "count": [700, 600, 500, 400, 300, 200],
                "ceiling": [1.0 if inside else _GUESS for inside in seen],
            },
            "num_pairs": {"values": [8], "accuracy": [accuracy], "count": [2700], "ceiling": [ceiling]},
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
            "step_ms": 40 + flops / 4e3 + random.Random(f"{attention} {seed} time").random(),
            "tokens_per_second": 128 * 64 / (40 + flops / 4e3) * 1e3,
            "cache_bytes": cache,
        },
        "parameter_hash": "0" * 64,
    }


def _metrics(accuracy: float, steps: int) -> list[dict[str, float]]:
    lines = []
    for step in range(100, steps + 1, 100):
        progress = 1 / (1 + math.exp(-(step - 0.55 * steps) / (0.1 * steps)))
        reached = _GUESS + (accuracy - _GUESS) * progress
        losses = {"train_loss": 2 - reached, "validation_loss": 2 - reached}
        lines.append({"step": step, "validation_accuracy": reached, **losses})
    return lines


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def main() -> None:
    """Writes a study of many cells, to see what tables and reports of it cost."""
    parser = argparse.ArgumentParser(prog="python -m tests.experiments.fake_study", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rates = [1e-3 * (1 + place / arguments.cells) for place in range(-(-arguments.cells // len(KINDS)))]
    cells = itertools.islice(itertools.product(rates, KINDS), arguments.cells)
    for (rate, attention), seed in itertools.product(cells, range(arguments.seeds)):
        write_run(arguments.folder, config_of(attention, seed, learning_rate=rate))


if __name__ == "__main__":
    main()
