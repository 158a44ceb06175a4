"""The texts of `--list_*`: variants, other layers, position encodings and tasks, as their classes describe them."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from attention_variants.interface import FAMILIES, AttentionVariant
from attention_variants.positions import POSITIONS
from attention_variants.registry import VARIANTS
from experiments.components.norms import NORMS
from experiments.components.optimizers import OPTIMIZERS
from experiments.components.registry import MIXERS
from experiments.components.schedules import SCHEDULES
from experiments.config.schema import describe_fields
from experiments.tasks.base import Task
from experiments.tasks.registry import TASKS

_ABILITIES = ("causal", "bidirectional", "cross", "bias")


class Entry(NamedTuple):
    """One variant of the catalogue, in words."""

    name: str
    spec: str  # with all its fields at their defaults
    summary: str  # the first sentence of its docstring
    family: str
    cost_order: str
    state_order: str
    capabilities: str
    paper: str
    layer: str  # what model.layer=paper puts around it; may be empty


def entries() -> list[Entry]:
    """Returns every registered variant, family by family and in the registry's order.

    Raises:
      ValueError: the family of a variant is unknown.
    """
    for name, kind in VARIANTS.items():
        if kind.family not in FAMILIES:
            raise ValueError(f"`family` of {name} must be one of {', '.join(FAMILIES)}; got {kind.family!r}.")
    ordered = sorted(VARIANTS.items(), key=lambda item: FAMILIES.index(item[1].family))  # a stable sort
    return [_entry(name, kind) for name, kind in ordered]


def variants_text() -> str:
    """Returns the text of --list_variants."""
    blocks = [
        f"{entry.spec}\n  {entry.summary}\n  {entry.family}; {entry.capabilities}\n"
        f"  cost {entry.cost_order}; state {entry.state_order}\n  {entry.paper}"
        + (f"\n  model.layer=paper: {entry.layer}" if entry.layer else "")
        for entry in entries()
    ]
    mixers = [f"{name}{fields_text(mixer)}\n  {mixer.summary}\n  {mixer.paper}" for name, mixer in MIXERS.items()]
    return "\n\n".join(
        [
            *blocks,
            "Layers that are not attention; their specs may be used wherever that of an attention variant may:",
            *mixers,
        ]
    )


def tasks_text() -> str:
    """Returns the text of --list_tasks."""
    return "\n\n".join(f"{name}{fields_text(task)}\n  {task.summary}" for name, task in sorted(TASKS.items()))


def positions_text() -> str:
    """Returns the text of --list_positions."""
    return "\n\n".join(f"{name}{fields_text(kind)}\n  {first_sentence(kind)}" for name, kind in POSITIONS.items())


def components_text(known: Mapping[str, Any]) -> str:
    """Returns a block for each entry of a registry whose classes have a `summary`."""
    return "\n\n".join(f"{name}{fields_text(kind)}\n  {kind.summary}" for name, kind in known.items())


def fields_text(cls: Any) -> str:
    """Returns the fields of a class with their defaults as in a spec, ":length=64,num_pairs=4"."""
    fields = [f"{field.name}={field.default}" for field in dataclasses.fields(cls)]
    return f":{','.join(fields)}" if fields else ""


def sizes_text(task: Task) -> str:
    """Returns the length of a row, what its answers are, and the size of its context."""
    answers = f"answers right within {task.tolerance}" if task.tolerance is not None else f"{task.vocab_size} classes"
    if not task.input_channels:
        within = f", distributions right within {task.tolerance}" if task.distributions else ""
        answers = f"vocabulary {task.vocab_size}{within}"
    text = f"{_sequence_text(task.input_length, task.input_channels)} a row, {answers}"
    if task.context is None:
        return text
    vocabulary = f", vocabulary {task.context.vocab_size}" if task.context.vocab_size else ""
    return f"{text}, with a context of {_sequence_text(task.context.length, task.context.channels)}{vocabulary}"


def floors_text(task: Task) -> list[str]:
    """Returns the score of each shortcut, in words."""
    accuracies = [f"{shortcut} {accuracy:.3f}" for shortcut, accuracy in task.floors().items()]
    return accuracies + [f"{shortcut} ({task.loss_name}) {loss:.3f}" for shortcut, loss in task.loss_floors().items()]


def _sequence_text(length: int, channels: int) -> str:
    return f"{length} positions of {channels} numbers" if channels else f"{length} tokens"


def first_sentence(cls: type) -> str:
    """Returns the first paragraph of a docstring up to its first full stop, on one line."""
    paragraph = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


def _entry(name: str, kind: Any) -> Entry:
    able = [word for word in _ABILITIES if getattr(kind, f"supports_{word}")]
    able += ["RoPE stays relative"] if kind().rotation_is_relative else []
    return Entry(
        name=name,
        spec=f"{name}{fields_text(kind)}",
        summary=first_sentence(kind),
        family=kind.family,
        cost_order=kind.cost_order,
        state_order=kind.state_order,
        capabilities=", ".join(able),
        paper=kind.paper,
        layer=_layer_text(kind()),
    )


def _layer_text(variant: AttentionVariant) -> str:
    """Returns the options and the position encoding of a variant's paper."""
    position = "" if variant.paper_position == "none" else f"position={variant.paper_position}"
    return ",".join(filter(None, (position, variant.at_depth(0).paper_layer.text())))


# Of the flags --list_<name>: the name, what it prints, and the text.
LISTINGS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("variants", "every attention variant", variants_text),
    ("positions", "every position encoding", positions_text),
    ("tasks", "every task", tasks_text),
    ("config", "every field of a config", describe_fields),
    ("norms", "every norm", functools.partial(components_text, NORMS)),
    ("optimizers", "every optimizer", functools.partial(components_text, OPTIMIZERS)),
    ("schedules", "every learning-rate schedule", functools.partial(components_text, SCHEDULES)),
)
