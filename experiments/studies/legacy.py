"""Results of earlier versions in today's form, as far as that needs no task; see also docs/refresh_results.py."""

from collections.abc import Mapping
from typing import Any

from attention_variants import specs

# Fields that `train` once had, the field whose spec holds each of them now, and that spec's name and default then.
_MOVED = {
    "warmup_steps": ("schedule", "cosine", 100),
    "weight_decay": ("optimizer", "adamw", 0.1),
}


def config_of_today(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a nested config in which warm-up and weight decay are part of the specs of schedule and optimizer."""
    train = dict(config.get("train", {}))
    for once, (field, name, default) in _MOVED.items():
        if once in train:
            value = train.pop(once)
            train[field] = name if value == default else f"{name}:{once}={value}"
    return {**config, "train": train} if train else dict(config)


def tests_of_today(result: Mapping[str, Any], task: str) -> list[dict[str, Any]]:
    """Returns the tests on other rows in a result; earlier results have them as `lengths` and `shifted`.

    Args:
      result: of a run.
      task: the spec of its task; the labels of shifted tasks say how they differ from it.
    """
    if "tests" in result:
        return result["tests"]
    lengths = [
        {"kind": "length", "value": value, "label": f"at {value}", "length": _middle(value), **score}
        for value, score in result.get("lengths", {}).items()
    ]
    shifted = [
        {"kind": "shifted", "value": spec, "label": _difference(task, spec), "length": None, **score}
        for spec, score in result.get("shifted", {}).items()
    ]
    return [*lengths, *shifted]


def _middle(lengths: str) -> float:
    ends = [float(end) for end in lengths.split("-")]
    return sum(ends) / len(ends)


def _difference(task: str, shifted: str) -> str:
    """Returns the fields that the spec of a shifted task sets differently, or its spec if only defaults differ."""
    (name, own), (other_name, other) = specs.parse_spec(task), specs.parse_spec(shifted)
    fields = [f"{field}={value}" for field, value in other.items() if own.get(field) != value]
    return ", ".join(fields) if fields and name == other_name else shifted
