"""The name of a run: a digest of everything that decides its numbers, the same however its specs are spelt."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from attention_variants import specs
from attention_variants.positions import POSITIONS
from attention_variants.registry import VARIANTS
from experiments.components.norms import NORMS
from experiments.components.optimizers import OPTIMIZERS, AdamW
from experiments.components.registry import join_specs
from experiments.components.schedules import SCHEDULES, Cosine
from experiments.config import schema, sections
from experiments.config.other_rows import LENGTH, SHIFTED
from experiments.tasks.registry import TASKS

if TYPE_CHECKING:
    from experiments.config.run import Run

T = TypeVar("T")

_COMPONENTS: dict[str, dict[str, Any]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
_ONCE_FIELDS = {"optimizer": (AdamW, "weight_decay"), "schedule": (Cosine, "warmup_steps")}  # of `train` itself
# Defaults that fields of specs once had. A digest is made of specs as they would have been written then: what a default
# gives today is something else, and needs another name.
_ONCE_DEFAULTS: dict[str, dict[str, Any]] = {"mqar": {"vocab_size": 64}, "cosformer": {"horizon": 16384}}
# What computes different numbers today than it once did under the same spec, and how often that has happened.
_REVISIONS = {name: 1 for name in ("kimi_delta", "differential", "native_sparse", "hedgehog", "rwkv6", "t5")}
FORMAT = 1  # raise it when training itself changes, so that old runs are not taken for new ones


class Digests(NamedTuple):
    """Names of 12 hexadecimal digits."""

    run: str  # also that of its folder
    cell: str  # shared by all its seeds


def digests(run: "Run") -> Digests:
    """Returns the digests of a run: of its canonical config, the version of its task, and `FORMAT`."""
    config = canonical(run)
    return Digests(_digest(run, config), _digest(run, {key: value for key, value in config.items() if key != "seed"}))


def version(run: "Run") -> str:
    """Returns the versions of training and of the task, as "1.2"."""
    return f"{FORMAT}.{run.task.version}"


def canonical(run: "Run") -> dict[str, Any]:
    """Returns the nested config that decides a run's numbers, every spec in its shortest form.

    Younger fields are left out at their defaults, fields that are now part of a spec are written as they once were, and
    a spec leaves out what its defaults once were: runs made before keep their names, and no other run has them.
    """
    fields = run.config.fields() | _canonical_specs(run) | _canonical_sizes(run)
    for part, (kind, once) in _ONCE_FIELDS.items():
        component = getattr(run, part)
        if type(component) is kind:
            fields[f"train.{once}"] = getattr(component, once)
            rest = dataclasses.replace(component, **{once: kind.__dataclass_fields__[once].default})
            fields[f"train.{part}"] = specs.spec_of(rest, _COMPONENTS[part])
    for key, default in schema.younger_defaults().items():
        if fields[key] == default:
            del fields[key]
    if run.pretraining is not None:  # whatever decides its numbers decides those of this run
        fields = {key: value for key, value in fields.items() if not key.startswith("pretrain.")}
        fields["pretrain.cell"] = run.pretraining.digests.cell
    if changed := revised(fields):
        fields["model.revisions"] = changed
    nested: dict[str, Any] = {}
    for key, value in fields.items():
        section, dot, name = key.rpartition(".")
        if schema.decides_numbers(key):
            (nested.setdefault(section, {}) if dot else nested)[name] = value
    return nested


def revised(fields: Mapping[str, Any]) -> dict[str, int]:
    """Returns which parts of a model are revised, and how often."""
    texts = (str(fields.get(f"model.{name}", "")) for name in ("attention", "encoder", "cross_attention", "position"))
    words = {word for text in texts for word in re.split(r"[^a-z0-9_]+", text)}
    return {name: count for name, count in _REVISIONS.items() if name in words}


def _canonical_sizes(run: "Run") -> dict[str, Any]:
    """Returns the shortest way to say which mixer is in which layer, and how many key-value heads there are."""
    model, number = run.model, len(run.layers)
    mixers = _period([run.mixers[layer % len(run.mixers)] for layer in range(number)])
    positions = _period([run.positions[layer % len(run.positions)] for layer in range(number)])
    presets = _period([run.presets[layer % len(run.presets)] for layer in range(number)])
    return {
        "model.attention": _as_once(join_specs(tuple(mixers)), "+"),
        "model.num_layers": 0 if len(mixers) == number else number,
        "model.num_kv_heads": 0 if model.num_kv_heads == model.num_heads else model.num_kv_heads,
        "model.position": "+".join(specs.spec_of(position, POSITIONS) for position in positions),
        "model.layer": "+".join(presets),
        **_published(run),
    }


def _period(layers: Sequence[T]) -> Sequence[T]:
    """Returns the shortest prefix that repeats in turn."""
    length = next(n for n in range(1, len(layers) + 1) if all(m == layers[i % n] for i, m in enumerate(layers)))
    return layers[:length]


def _published(run: "Run") -> dict[str, Any]:
    """Returns what presets expand to, so that changing one makes another run."""
    if sections.PAPER not in run.presets:
        return {}
    built = [(mixer, sizes) for mixer, sizes in (*run.built, *run.built_encoder) if mixer.attends]
    return {"model.published": [f"{mixer.spec()} {sizes.position} {sizes.options.text()}" for mixer, sizes in built]}


def _canonical_specs(run: "Run") -> dict[str, str]:
    found = {
        "task": _as_once(specs.spec_of(run.task, TASKS)),
        "model.norm": specs.spec_of(run.norm, NORMS),
        **{f"train.{part}": specs.spec_of(getattr(run, part), known) for part, known in _COMPONENTS.items()},
        "eval.test_lengths": ",".join(test.value for test in run.tests if test.kind == LENGTH),
        "eval.shifted": _as_once("|".join(test.value for test in run.tests if test.kind == SHIFTED)),
    }
    if run.cross is not None:
        found["model.encoder"] = _as_once(join_specs(run.encoder), "+")
        found["model.cross_attention"] = _as_once(run.cross.spec())
    return found


def _as_once(text: str, separator: str = "|") -> str:
    """Returns shortest specs, joined by `separator`, written with the defaults that their fields once had."""
    return separator.join(_spec_as_once(spec) for spec in text.split(separator))


def _spec_as_once(spec: str) -> str:
    name, _, rest = spec.partition(":")
    if name not in _ONCE_DEFAULTS:
        return spec
    given = dict(item.split("=") for item in rest.split(",") if item)
    kinds: dict[str, Any] = {**TASKS, **VARIANTS}
    fields = dataclasses.fields(kinds[name])
    values = {field.name: given.get(field.name, str(field.default)) for field in fields}
    once = {field.name: str(_ONCE_DEFAULTS[name].get(field.name, field.default)) for field in fields}
    changed = [f"{field}={value}" for field, value in values.items() if value != once[field]]
    return f"{name}:{','.join(changed)}" if changed else name


def _digest(run: "Run", config: dict[str, Any]) -> str:
    identity = {"version": version(run), "config": config}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
