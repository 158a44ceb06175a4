"""Every field that a study can set, with its default and its meaning. This is the only place that says them.

A `Config` is what was asked for: plain values and spec strings, unchecked beyond their types. What it amounts to, with
every spec built and every value checked, is a `Run` (`run.py`).
"""

import ast
import dataclasses
import difflib
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from attention_variants import specs
from attention_variants.checks import check_integer, check_number

_LARGEST_WIDTH = 2**16  # beyond it a layer is larger than the memory of any one device
MOST_LAYERS = 256
_LARGEST_BATCH = 2**20
_MOST_ROWS = 2**24  # of one evaluation; their standard error is below 0.0002
_SMALLEST, _LARGEST = 1e-30, 1e30  # well inside float32
READOUTS = ("position", "mean")
PAPER = "paper"
PRESETS = ("plain", PAPER)  # of what stands around attention
LAST, EVERY = "last", "every"  # checkpoints that a run keeps
NONE, PARAMS, STATE, FLOPS = MATCHES = ("none", "params", "state", "flops")  # what the rows of a study may spend alike
DTYPES = ("float32", "bfloat16")
FIRST_SEARCH_SEED = 10_000  # from here on are the seeds that only choose, where a study has such

Fields = dict[str, Any]  # flat: {"model.attention": "full", ...}


def _field(default: Any, meaning: str, *, younger: bool = False) -> Any:
    """Declares a field.

    Args:
      default: of the type that the field has.
      meaning: in one line, as --list_config prints it.
      younger: whether runs were made before the field existed. Such a field is part of a run's digest only where it
        differs from its default, so that those runs keep their names.
    """
    return dataclasses.field(default=default, metadata={"meaning": meaning, "younger": younger})


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The section `model`."""

    attention: str = _field("full", "specs of the layers' mixers joined by '+'; 'conv' is a gated short convolution")
    num_layers: int = _field(0, "layers, over which the specs repeat in turn; 0: one layer per spec")
    model_dim: int = _field(64, "width of the residual stream")
    num_heads: int = _field(2, "attention heads; must divide model_dim")
    num_kv_heads: int = _field(0, "key-value heads; must divide num_heads; 0: as many as num_heads")
    mlp_dim: int = _field(0, "hidden width of the MLP after every mixer; 0: no MLP")
    position: str = _field(
        "none", "spec of the position encoding, see --list_positions; several joined by '+': of the layers in turn"
    )
    layer: str = _field(
        "plain",
        "'paper': what a variant's paper puts around it, see --list_variants; several joined by '+': in turn",
        younger=True,
    )
    norm: str = _field("rms", "spec of the normalisation before every mixer and MLP, see --list_norms", younger=True)
    head_dim: int = _field(
        0,
        "channels of a head's queries and keys, and of its values unless value_dim says otherwise; 0: by model_dim",
        younger=True,
    )
    value_dim: int = _field(0, "channels of a head's values; 0: head_dim, or by model_dim", younger=True)
    short_conv: int = _field(0, "kernel size of a causal convolution before the projections; 0: none")
    token_shift: str = _field(
        "none", "what attention reads is mixed with the token before: none, lerp or ddlerp", younger=True
    )
    qk_shared: bool = _field(False, "one head of queries and keys, which all heads share", younger=True)
    key_expansion: float = _field(1.0, "width of all heads' queries, in model_dim", younger=True)
    value_expansion: float = _field(1.0, "width of all heads' values, in model_dim", younger=True)
    qkv_conv: int = _field(0, "kernel size of a causal convolution of queries, keys and values; 0: none", younger=True)
    conv_residual: bool = _field(False, "convolutions add to what they read", younger=True)
    conv_silu: bool = _field(False, "SiLU after the convolution of queries, keys and values", younger=True)
    value_silu: bool = _field(False, "SiLU of the values", younger=True)
    qk_norm: bool = _field(False, "normalise queries and keys per head by their root mean square")
    skip: int = _field(
        0,
        "kernel size of a convolution of the values, added to the output; 1: D x of state-space models; 0: none",
        younger=True,
    )
    output_gate: str = _field("none", "gate of attention's output: none, silu or sigmoid", younger=True)
    gate_per_head: bool = _field(False, "one output gate per head instead of one per channel", younger=True)
    gate_low_rank: bool = _field(False, "the gate's projection goes through value_dim channels", younger=True)
    output_norm: str = _field(
        "none", "norm of attention's output: none, head, group (of a head, with mean) or all (channels)", younger=True
    )
    norm_after_gate: bool = _field(False, "the output's norm follows its gate", younger=True)
    output_scale: float = _field(1.0, "constant that multiplies attention's output", younger=True)
    tied_embeddings: bool = _field(False, "unembed with the embedding matrix")
    bidirectional: bool = _field(
        False, "attention reads in both directions even where the task is causal", younger=True
    )
    readout: str = _field(
        "position",
        "read answers where the task asks for them; 'mean': from the mean of the row up to there",
        younger=True,
    )
    encoder: str = _field(
        "full", "specs of the layers that read a task's context in both directions, joined by '+'", younger=True
    )
    cross_attention: str = _field("full", "spec of every layer's attention to a task's context", younger=True)

    def check(self) -> None:
        """Raises ValueError, in one line, for a value out of range."""
        for name in ("model_dim", "num_heads"):
            check_integer(f"model.{name}", getattr(self, name), 1, _LARGEST_WIDTH)
        for name in ("num_kv_heads", "mlp_dim", "head_dim", "value_dim"):
            check_integer(f"model.{name}", getattr(self, name), 0, _LARGEST_WIDTH)
        check_integer("model.num_layers", self.num_layers, 0, MOST_LAYERS)
        if not self.head_dim:
            _check_divides("num_heads", self.num_heads, "model_dim", self.model_dim)
        _check_divides("num_kv_heads", self.num_kv_heads or self.num_heads, "num_heads", self.num_heads)
        for preset in self.layer.split("+"):
            _check_choice("model.layer", preset, PRESETS)
        _check_choice("model.readout", self.readout, READOUTS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The section `train`."""

    batch_size: int = _field(64, "rows per step")
    steps: int = _field(1000, "training steps at most, and the length of the schedule")
    learning_rate: float = _field(3e-3, "peak of the schedule")
    optimizer: str = _field("adamw", "spec of the optimizer, see --list_optimizers", younger=True)
    schedule: str = _field("cosine", "spec of the learning rate's schedule, see --list_schedules", younger=True)
    clip_norm: float = _field(1.0, "largest global norm of the gradient")
    eval_every: int = _field(100, "steps per compiled chunk, followed by one validation and one checkpoint")
    keep_checkpoints: str = _field(
        LAST,
        "checkpoints that stay: last, or every, which adds the parameters at the start and at each validation",
        younger=True,
    )
    solved_at: float = _field(0.99, "validation accuracy that counts as solved")
    stop_when_solved: bool = _field(True, "end the run once it has solved its task")
    dtype: str = _field(
        "float32",
        "what layers compute in: float32, or bfloat16; parameters, softmax, states and losses are float32 in both",
        younger=True,
    )

    def check(self) -> None:
        """Raises ValueError, in one line, for a value out of range."""
        check_integer("train.batch_size", self.batch_size, 1, _LARGEST_BATCH)
        for name in ("steps", "eval_every"):
            check_integer(f"train.{name}", getattr(self, name), 1)
        for name in ("learning_rate", "clip_norm"):
            check_number(f"train.{name}", getattr(self, name), _SMALLEST, _LARGEST)
        check_number("train.solved_at", self.solved_at, 0.0, 1.0)
        _check_choice("train.keep_checkpoints", self.keep_checkpoints, (LAST, EVERY))
        _check_choice("train.dtype", self.dtype, DTYPES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The section `pretrain`: a run before this one, in whose best parameters this one begins."""

    task: str = _field("", "spec of the task to train on first, as a run of its own; empty: none", younger=True)
    steps: int = _field(0, "its training steps at most; 0: as many as train.steps", younger=True)
    learning_rate: float = _field(0.0, "peak of its schedule; 0: that of train.learning_rate", younger=True)

    def check(self) -> None:
        """Raises ValueError, in one line, for a value out of range, or for settings of what is not asked for."""
        check_integer("pretrain.steps", self.steps, 0)
        check_number("pretrain.learning_rate", self.learning_rate, 0.0, _LARGEST)
        for name in ("steps", "learning_rate"):
            if getattr(self, name) and not self.task:
                raise ValueError(
                    f"pretrain.{name}={getattr(self, name)} needs pretrain.task, the task to train on first."
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """The section `eval`."""

    batch_size: int = _field(256, "rows per evaluation batch")
    validation_rows: int = _field(512, "rows of the validation stream, the same at every evaluation")
    test_rows: int = _field(2048, "rows of the test stream, drawn once")
    test_lengths: str = _field(
        "",
        "further lengths to test at, such as '128,256', or '41-80,81-160' for strings; causal models only",
        younger=True,
    )
    shifted: str = _field("", "further tasks to test on, specs joined by '|'", younger=True)

    def check(self) -> None:
        """Raises ValueError, in one line, for a value out of range."""
        check_integer("eval.batch_size", self.batch_size, 1, _LARGEST_BATCH)
        for name in ("validation_rows", "test_rows"):
            check_integer(f"eval.{name}", getattr(self, name), 1, _MOST_ROWS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The section `study`: how runs are compared and repeated. It is no part of any single run."""

    vary: tuple[str, ...] = _field((), "grid, such as ('model.attention=full|linear',); --vary replaces it")
    seeds: int = _field(1, "runs per cell of the grid, at seeds seed, seed + 1, ...; --seeds replaces it")
    select: tuple[str, ...] = _field(
        (), "varied keys chosen by validation accuracy, such as ('train.learning_rate',); --select replaces it"
    )
    search_seeds: int = _field(
        0, "runs per cell that choose study.select, at seeds of their own; study.seeds then counts for what is chosen"
    )
    match_by: str = _field(
        "",
        "the field that match solves for, such as model.mlp_dim or window_size; '': the first that fits",
    )
    match_target: int = _field(0, "what every row is to spend under match; 0: what the first row of its task does")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What one run, or a study whose grid is not expanded yet, is asked to be."""

    name: str = _field("base", "folder of the study below --results")
    task: str = _field("mqar:length=64,num_pairs=4", "spec of the task, see --list_tasks")
    seed: int = _field(0, "fixes data, initialisation and order")
    match: str = _field(
        NONE,
        "what all rows of a task spend alike, widths or sizes being solved for: params, state (bytes), flops or none; "
        "--match replaces it",
        younger=True,
    )
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    pretrain: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    study: StudyConfig = dataclasses.field(default_factory=StudyConfig)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Builds a config from flat fields; those left out take their defaults.

        Raises:
          SpecError: a key is unknown, nearest first, or a value is of the wrong type, NaN or infinite.
        """
        typed = {key: read_value(key, value) for key, value in fields.items()}
        sections = {name: kind(**_within(typed, name)) for name, kind in SECTIONS.items()}
        return cls(**{key: value for key, value in typed.items() if "." not in key}, **sections)

    @classmethod
    def from_nested(cls, config: Mapping[str, Any]) -> Self:
        """Builds a config from a nested dict, such as that of a `config.json`; raises SpecError."""
        return cls.from_fields(flatten(config))

    @property
    def searches(self) -> bool:
        """Whether a run only chooses among the cells of its study, and is not reported."""
        return searches(self.seed, self.study.search_seeds)

    def fields(self) -> Fields:
        """Returns all fields, flat, in the order of their declaration."""
        return flatten(self.nested())

    def nested(self) -> dict[str, Any]:
        """Returns all fields as a nested dict."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Raises ValueError, in one line, for a value out of range."""
        check_integer("seed", self.seed, 0)
        check_integer("study.search_seeds", self.study.search_seeds, 0)
        check_integer("study.match_target", self.study.match_target, 0, 2**62)
        _check_choice("match", self.match, MATCHES)
        for section in (self.model, self.train, self.pretrain, self.eval):
            section.check()


SECTIONS: dict[str, Any] = {
    "model": ModelConfig,
    "train": TrainConfig,
    "pretrain": PretrainConfig,
    "eval": EvalConfig,
    "study": StudyConfig,
}
_OF_THE_STUDY = ("name", "match", "study")  # decide where runs lie and how they are compared
_OF_THE_FOLDER = ("train.keep_checkpoints",)  # decide what of a run stays on disk


def default_fields() -> Fields:
    """Returns every field at its default, flat."""
    return Config().fields()


def searches(seed: int, search_seeds: int) -> bool:
    """Whether a run only chooses among the cells of a study with so many `study.search_seeds`."""
    return search_seeds > 0 and seed >= FIRST_SEARCH_SEED


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Fields:
    """Returns {"model.attention": ..., ...} for {"model": {"attention": ...}, ...}."""
    flat: Fields = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def decides_numbers(key: str) -> bool:
    """Whether a field decides a number of a run, and so is part of what names it."""
    return key.split(".")[0] not in _OF_THE_STUDY and key not in _OF_THE_FOLDER


def cell_fields(fields: Mapping[str, Any]) -> Fields:
    """Returns the fields that tell the cells of a study apart: those that decide numbers, but for the seed."""
    return {key: value for key, value in fields.items() if decides_numbers(key) and key != "seed"}


def younger_defaults() -> Fields:
    """Returns the default of every field that some runs were made without."""
    return {key: field.default for key, field in declared().items() if field.metadata["younger"]}


@functools.cache
def declared() -> Mapping[str, Any]:
    """Returns the `dataclasses.Field` of every field by its flat key."""
    found: dict[str, Any] = {field.name: field for field in dataclasses.fields(Config) if field.name not in SECTIONS}
    for name, kind in SECTIONS.items():
        found |= {f"{name}.{field.name}": field for field in dataclasses.fields(kind)}
    return found


def varied_keys(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys in which some cells differ, in the order in which they are met; some may lack a key."""
    keys = dict.fromkeys(key for cell in cells for key in cell)
    return [key for key in keys if any(cell.get(key) != cells[0].get(key) for cell in cells)]


def describe_fields() -> str:
    """Returns the text of --list_config."""
    return "\n\n".join(
        f"{key}={_spelled(field.default)}\n  {field.metadata['meaning']}" for key, field in declared().items()
    )


def read_value(key: str, value: Any) -> Any:
    """Returns `value` in the type of the field `key`; a string is read, and an integer may stand for a float.

    Raises:
      SpecError: the key is unknown, or the value does not fit.
    """
    known = declared()
    if key not in known:
        raise specs.SpecError(unknown_key(key, known))
    kind = type(known[key].default)
    if kind is tuple:
        items = _listed(value) if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise specs.SpecError(f"{key} must be a tuple of strings; got {value!r}.")
        return tuple(item.strip() for item in items if item.strip())
    if isinstance(value, str):
        value = specs.coerce(value, kind, key)
    elif not (type(value) is kind or (kind is float and type(value) is int)) or not _is_finite(value):
        expected = {int: "an integer", float: "a finite number", bool: "true or false", str: "a string"}[kind]
        raise specs.SpecError(f"{key} must be {expected}; got {value!r}.")
    return float(value) + 0.0 if kind is float else value  # + 0.0: there is one zero


def _is_finite(value: Any) -> bool:
    """Whether a number fits into a float; what is no number does."""
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:  # an integer
        return False


def _listed(text: str) -> Any:
    """Returns the items of 'a,b', or of a Python tuple or list."""
    if text.strip()[:1] not in ("(", "["):
        return text.split(",")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def unknown_key(key: str, known: Mapping[str, Any]) -> str:
    """Returns the line that says `key` is unknown, nearest keys first.

    The same name in another section is near, and so are initials ("lr").
    """
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        return f"{key!r} is a section; set one of its fields: {', '.join(inside)}."
    names, wanted = {name: name.split(".")[-1] for name in known}, key.split(".")[-1]
    if wanted in _FIELDS_OF_SPECS:
        return f"unknown config key {key!r}; it is a field of a spec: {_FIELDS_OF_SPECS[wanted]}."
    near = [name for name in names if wanted == "".join(word[0] for word in names[name].split("_"))]
    close_names = difflib.get_close_matches(wanted, names.values(), n=3, cutoff=0.7)
    near += [name for close in close_names for name in names if names[name] == close]
    near = list(dict.fromkeys(near + difflib.get_close_matches(key, known, n=3, cutoff=0.75)))[:4]
    if not near:
        return specs.unknown("config key", key, known)
    return f"unknown config key {key!r}; nearest valid keys: {', '.join(near)}."


# Keys that earlier versions had, and people remember.
_FIELDS_OF_SPECS = {
    "warmup_steps": "train.schedule=cosine:warmup_steps=100",
    "weight_decay": "train.optimizer=adamw:weight_decay=0.1",
}


def _within(fields: Mapping[str, Any], section: str) -> Fields:
    prefix = f"{section}."
    return {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}


def _spelled(default: Any) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(specs.unknown(name, value, choices))


def _check_divides(part: str, divisor: int, whole: str, value: int) -> None:
    if value % divisor:
        raise ValueError(f"`model.{part}` must divide `model.{whole}`; got {divisor} and {value}.")
