"""A run's configuration, unpacked at once into frozen dataclasses: a misspelt or senseless field fails here."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from attention_variants import specs
from attention_variants.checks import check_integer, check_number
from attention_variants.positions import Position, make_position
from experiments.tasks.base import Context, Task
from experiments.tasks.formal.string_task import StringTask
from experiments.tasks.registry import make_task

_LARGEST_WIDTH = 2**16  # beyond it a layer is larger than the memory of any one device
_MOST_LAYERS = 256
MOST_TAPS = 64  # of a convolution; each is written out
_LARGEST_SEED = 2**31 - 1
READOUTS = ("position", "mean")
_SMALLEST, _LARGEST = 1e-30, 1e30  # well inside float32
_FREE_SECTIONS = ("name", "study")  # how runs are named, compared and repeated; no part of a single run


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What `config.model` holds; `configs/base.py` says what each field means."""

    attention: str
    num_layers: int
    model_dim: int
    num_heads: int
    num_kv_heads: int
    mlp_dim: int
    position: str
    short_conv: int
    qk_norm: bool
    tied_embeddings: bool
    bidirectional: bool = False  # a field with a default is younger than some runs: see `without_defaults`
    readout: str = "position"
    encoder: str = "full"
    cross_attention: str = "full"

    def __post_init__(self) -> None:
        _check_types(self, "model")
        for name in ("model_dim", "num_heads"):
            check_integer(f"model.{name}", getattr(self, name), 1, _LARGEST_WIDTH)
        for name in ("num_layers", "num_kv_heads", "mlp_dim", "short_conv"):
            check_integer(f"model.{name}", getattr(self, name), 0, _LARGEST_WIDTH)
        check_integer("model.num_layers", self.num_layers, 0, _MOST_LAYERS)
        check_integer("model.short_conv", self.short_conv, 0, MOST_TAPS)
        _check_divides("num_heads", self.num_heads, "model_dim", self.model_dim)
        _check_divides("num_kv_heads", self.num_kv_heads or self.num_heads, "num_heads", self.num_heads)
        if self.readout not in READOUTS:
            raise ValueError(specs.unknown("model.readout", self.readout, READOUTS))
        self.encoding()

    def encoding(self) -> Position:
        """Returns the position encoding that `position` names."""
        return make_position(self.position)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What `config.train` holds."""

    batch_size: int
    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    clip_norm: float
    eval_every: int
    solved_at: float
    stop_when_solved: bool

    def __post_init__(self) -> None:
        _check_types(self, "train")
        for name in ("batch_size", "steps", "eval_every"):
            check_integer(f"train.{name}", getattr(self, name), 1)
        check_integer("train.warmup_steps", self.warmup_steps, 0)
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"`train.warmup_steps` must be at most `train.steps`; got {self.warmup_steps} and {self.steps}."
            )
        for name in ("learning_rate", "clip_norm"):
            check_number(f"train.{name}", getattr(self, name), _SMALLEST, _LARGEST)
        check_number("train.weight_decay", self.weight_decay, 0.0, _LARGEST)
        check_number("train.solved_at", self.solved_at, 0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What `config.eval` holds."""

    batch_size: int
    validation_rows: int
    test_rows: int
    test_lengths: str = ""  # younger than some runs, see `without_defaults`
    shifted: str = ""

    def __post_init__(self) -> None:
        _check_types(self, "eval")
        for name in ("batch_size", "validation_rows", "test_rows"):
            check_integer(f"eval.{name}", getattr(self, name), 1)
        self.lengths()
        self.shifted_tasks()

    def lengths(self) -> tuple[tuple[int, int], ...]:
        """Returns the further lengths of the test, ascending, each as the shortest and the longest of a range."""
        words = [word.strip() for word in self.test_lengths.split(",")] if self.test_lengths.strip() else []
        ends = [(word.split("-") * 2)[:2] if word.count("-") < 2 else [""] for word in words]
        if not all(end.isdecimal() for pair in ends for end in pair) or any(not 0 < int(a) <= int(b) for a, b in ends):
            raise ValueError(
                f"`eval.test_lengths` must be lengths such as '128,256' or ranges such as '41-80'; got "
                f"{self.test_lengths!r}."
            )
        return tuple(sorted({(int(shortest), int(longest)) for shortest, longest in ends}))

    def shifted_tasks(self) -> dict[str, Task]:
        """Returns the tasks of `shifted` by their shortest specs, in the order given."""
        if not self.shifted.strip():
            return {}
        try:
            built = [(specs.parse_spec(text)[0], make_task(text)) for text in self.shifted.split("|")]
        except ValueError as error:
            raise ValueError(f"`eval.shifted`: {error}") from error
        return {specs.format_spec(name, task): task for name, task in built}


_SECTIONS = {"model": ModelConfig, "train": TrainConfig, "eval": EvalConfig}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides the outcome of one run."""

    task: Task
    seed: int
    model: ModelConfig
    train: TrainConfig
    eval: EvalConfig

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, 0)
        if self.seed > _LARGEST_SEED:
            raise ValueError(f"`seed` must be at most {_LARGEST_SEED}; got {self.seed}.")

        self._check_fit()
        if self.eval.lengths() and not self.causal:
            raise NotImplementedError("`eval.test_lengths` pads rows at the end, which only a causal model cannot see.")
        for spec, task in self.eval.shifted_tasks().items():
            self._check_test(f"`eval.shifted`: {spec}", task)
        for length, task in self.test_tasks().items():
            self._check_test(f"`eval.test_lengths`: {length}", task)

    def _check_fit(self) -> None:
        """Raises for a model that the task cannot be given to."""
        name, model = type(self.task).__name__, self.model
        if model.bidirectional and self.task.answers_follow:
            raise NotImplementedError(
                f"{name} tells its answers to whoever reads ahead; model.bidirectional must be false."
            )
        if self.task.context is None:
            for field in ("encoder", "cross_attention"):
                if getattr(model, field) != "full":
                    raise ValueError(
                        f"model.{field}={getattr(model, field)} needs a task with a context, such as translation; "
                        f"{name} has none."
                    )
        if model.readout == "mean" and self.task.num_scored() != 1:
            raise ValueError(f"model.readout=mean gives one answer a row; {name} asks for {self.task.num_scored()}.")
        if model.tied_embeddings and (self.task.input_channels or self.task.tolerance is not None):
            raise ValueError(f"model.tied_embeddings needs tokens as inputs and targets; {name} has numbers.")

    @property
    def causal(self) -> bool:
        """Whether attention sees only what came before."""
        return self.task.causal and not self.model.bidirectional

    def test_tasks(self) -> dict[str, Task]:
        """Returns the task at every further length of the test, such as "128", and range, such as "41-80"."""
        found: dict[str, Task] = {}
        for shortest, longest in self.eval.lengths():
            name = str(longest) if shortest == longest else f"{shortest}-{longest}"
            try:
                at = self.task.at_length(longest) if shortest == longest else self.task.at_lengths(shortest, longest)
            except ValueError as error:
                raise ValueError(f"`eval.test_lengths`: {name}: {error}") from error
            if isinstance(at, StringTask) and longest not in at.lengths() and shortest == longest:
                raise ValueError(f"`eval.test_lengths`: {name}: the task has no strings of that length.")
            found[name] = at
        return found

    def longest_input(self) -> int:
        """Returns the most tokens of a row that the model will read."""
        further = (*self.test_tasks().values(), *self.eval.shifted_tasks().values())
        return max(task.input_length for task in (self.task, *further))

    def _check_test(self, name: str, task: Task) -> None:
        """Raises unless a model of `self.task` can be tested on `task`."""
        expected, got = self._demands(self.task), self._demands(task)
        for what in expected:
            if got.get(what) != expected[what]:
                raise ValueError(f"{name} must have the task's {what}, {expected[what]}; got {got.get(what)}.")
        longest, length = ((each.context or Context(0)).length for each in (self.task, task))
        if length > longest:
            raise NotImplementedError(f"{name} must have no longer context than the task, {longest}; got {length}.")

    def _demands(self, task: Task) -> dict[str, Any]:
        """Returns what must be equal in all tasks of one model."""
        demands = {
            "vocab_size": task.vocab_size,
            "input_channels": task.input_channels,
            "tolerance": task.tolerance,
            "causality": task.causal,
            "one_vector": task.one_vector,
            "kind of context": _kind(task.context),
        }
        if not self.causal:  # it would see padding
            demands["input_length"] = task.input_length
        if self.model.bidirectional:
            demands["answers_follow"] = task.answers_follow
        if task.one_vector or self.model.readout == "mean":
            demands["number of answers"] = task.num_scored()
        return demands


def _kind(context: Context | None) -> str:
    if context is None:
        return "none"
    return f"{context.channels} channels" if context.channels else f"tokens below {context.vocab_size}"


def read(config: Mapping[str, Any]) -> Settings:
    """Unpacks a nested dict shaped like `configs/base.py`.

    Raises:
      ValueError: a key is unknown or missing, or a value has the wrong type or is out of range; one line.
    """
    given = {key: value for key, value in config.items() if key not in _FREE_SECTIONS}
    _check_keys(given, Settings, "")
    if not isinstance(given["task"], str):
        raise ValueError(f"`task` must be a spec string such as 'mqar:length=64,num_pairs=4'; got {given['task']!r}.")
    sections = {name: _read_section(given[name], kind, name) for name, kind in _SECTIONS.items()}
    return Settings(task=make_task(given["task"]), seed=given["seed"], **sections)


def without_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out fields that hold their default here: a run made before there was such a field is the same run."""
    kept = dict(config)
    for name, kind in _SECTIONS.items():
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}
        kept[name] = {
            key: value for key, value in config[name].items() if key not in defaults or defaults[key] != value
        }
    return kept


def _read_section(values: Any, kind: type, section: str) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"`{section}` must be a section of the config; got {values!r}.")
    _check_keys(values, kind, f"{section}.")
    return kind(**values)


def _check_keys(values: Mapping[str, Any], kind: type, prefix: str) -> None:
    known = [f"{prefix}{field.name}" for field in dataclasses.fields(kind)]
    needed = [f"{prefix}{field.name}" for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    present = [f"{prefix}{key}" for key in values]
    for key in present:
        if key not in known:
            raise ValueError(specs.unknown("config key", key, known + ([] if prefix else list(_FREE_SECTIONS))))
    for key in needed:
        if key not in present:
            raise ValueError(f"the config lacks the key {key!r}; `configs/base.py` holds every key and its default.")


def _check_divides(part: str, divisor: int, whole: str, value: int) -> None:
    if value % divisor:
        raise ValueError(f"`model.{part}` must divide `model.{whole}`; got {divisor} and {value}.")


def _check_types(section: Any, name: str) -> None:
    """Checks text and flags; numbers are checked with their ranges."""
    for field, kind in typing.get_type_hints(type(section)).items():
        value = getattr(section, field)
        if kind in (bool, str) and not isinstance(value, kind):
            raise ValueError(f"`{name}.{field}` must be {'true or false' if kind is bool else 'text'}; got {value!r}.")
