"""The form of the files in a run folder, so that readers can rely on it: which fields there are, and of which type."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from attention_variants import specs
from experiments.config.schema import Config, declared, flatten
from experiments.studies import legacy


class Each(NamedTuple):
    """A mapping from any names to values of one form."""

    form: Any


# A form is a tuple of types, a list of one form, a dict of forms whose optional names end in "?", or `Each`.
_ANY, _TEXT, _COUNT, _NUMBER, _MAYBE = (object,), (str,), (int,), (int, float), (int, float, type(None))
_SCORE = {"accuracy": _MAYBE, "loss": _MAYBE, "row_accuracy?": _MAYBE}
_ENVIRONMENT = {"flags?": Each(_TEXT)}
_RESULT = {
    "status": _TEXT,
    "test_accuracy": _MAYBE,
    "validation_accuracy": _MAYBE,
    "validation_loss?": _MAYBE,
    "test_loss?": _MAYBE,
    "row_accuracy?": _MAYBE,
    "floor?": _MAYBE,
    "ceiling?": _MAYBE,
    "repeated_rows?": _NUMBER,
    "unseen_accuracy?": _MAYBE,
    "steps": _COUNT,
    "steps_to_solve": _MAYBE,
    "compute": Each(_MAYBE),
    "cell?": _TEXT,
    "run_id?": _TEXT,
    "version?": _TEXT,
    "slices": Each(
        {
            "values?": [_COUNT],
            "edges?": [_COUNT],
            "accuracy": [_MAYBE],
            "count": [_NUMBER],
            "ceiling?": [_MAYBE],
            "row_accuracy?": [_MAYBE],
        }
    ),
    "tests?": [
        {
            "kind": _TEXT,
            "value": _TEXT,
            "label": _TEXT,
            "length": _MAYBE,
            "floor": _MAYBE,
            "ceiling": _MAYBE,
            **_SCORE,
        }
    ],
    "lengths?": Each(_SCORE),
    "shifted?": Each(_SCORE),
    "task?": {
        "name": _TEXT,
        "fields": Each(_ANY),
        "train_length": _MAYBE,
        "tolerance": _MAYBE,
        "distributions?": _ANY,
        "loss_floor": _MAYBE,
        "slice_labels": Each(_TEXT),
    },
    "model?": {"layers": _COUNT, "model_dim": _COUNT, "mlp_dim": _COUNT},
    "match?": {"quantity": _TEXT, "target": _COUNT, "spent": _COUNT, "mismatch": _NUMBER, "by": _TEXT},
    "environment?": _ENVIRONMENT,
}
_MANIFEST = {"version?": _TEXT, "environment?": _ENVIRONMENT, "command?": _TEXT, "date?": _TEXT}
_ROW = {"step": _COUNT, "validation_accuracy": _NUMBER}
_WORDS = {_ANY: "anything", _TEXT: "a text", _COUNT: "an integer", _NUMBER: "a number", _MAYBE: "a number or null"}


def check_config(config: Mapping[str, Any]) -> None:
    """Raises ValueError, in one line, unless `config` is a config of this, an earlier or a later version."""
    fields = flatten(legacy.config_of_today(config))
    for key in ("task", "seed", "model.attention"):
        if key not in fields:
            raise ValueError(f"{key} must be there; got nothing")
    Config.from_fields({key: value for key, value in fields.items() if key in declared()})
    for key, value in fields.items():
        if not isinstance(value, str | int | float | list | tuple | None):
            raise ValueError(f"{key} must be a plain value; got {value!r}")


def check_result(result: Mapping[str, Any]) -> None:
    """Raises ValueError, in one line, unless `result` is that of an ended run."""
    _check(result, _RESULT, "")
    if not result.get("run_id", "0").isalnum():
        raise ValueError(f"run_id must be a plain folder name; got {result['run_id']!r}")
    if "config" in result:
        check_config(result["config"])
        if "task" not in result or "model" not in result:  # then they are read from the specs
            specs.parse_spec(result["config"]["task"])
            specs.split_layers(result["config"]["model"]["attention"])
    for name, item in result["slices"].items():
        if not name.isidentifier():  # it becomes part of a file's name
            raise ValueError(f"slices must be named by plain words; got {name!r}")
        bins = len(item["accuracy"])
        starts = len(item["edges"]) - 1 if "edges" in item else len(item.get("values", ()))
        others = [len(item.get(field, item["count"])) for field in ("ceiling", "row_accuracy")]
        if not starts == bins == len(item["count"]) or others != [bins, bins]:
            raise ValueError(f"slices.{name} must have as many bins as accuracies; got {starts} and {bins}")


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raises ValueError, in one line, unless `manifest` is one."""
    _check(manifest, _MANIFEST, "")


def check_row(row: Mapping[str, Any]) -> None:
    """Raises ValueError, in one line, unless `row` is a row of metrics."""
    _check(row, _ROW, "")


def _check(value: Any, form: Any, where: str) -> None:
    if isinstance(form, list):
        _expect(isinstance(value, list), where, "a list", value)
        for index, item in enumerate(value):
            _check(item, form[0], f"{where}[{index}]")
    elif isinstance(form, Each):
        _expect(isinstance(value, Mapping), where, "an object", value)
        for name, item in value.items():
            _check(item, form.form, f"{where}.{name}".lstrip("."))
    elif isinstance(form, dict):
        _expect(isinstance(value, Mapping), where, "an object", value)
        for name, kind in form.items():
            plain = name.removesuffix("?")
            if plain not in value and name.endswith("?"):
                continue
            _expect(plain in value, f"{where}.{plain}".lstrip("."), "there", "nothing")
            _check(value[plain], kind, f"{where}.{plain}".lstrip("."))
    else:
        _expect(isinstance(value, form) and not (isinstance(value, bool) and form != _ANY), where, _WORDS[form], value)


def _expect(condition: bool, where: str, what: str, got: Any) -> None:
    if not condition:
        shown = repr(got) if not isinstance(got, Mapping | list) else type(got).__name__
        raise ValueError(f"{where or 'it'} must be {what}; got {shown[:60]}")
