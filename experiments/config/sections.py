"""The sections of a config: every field that a study can set, with its default and its meaning.

They are declared only here, except for the fields outside any section, which are in `schema.py`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

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
FIRST_SEARCH_SEED = 10_000  # seeds from here on only choose, where a study has such seeds


def declare(default: Any, meaning: str, *, younger: bool = False) -> Any:
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

    attention: str = declare("full", "specs of the layers' mixers joined by '+'; 'conv' is a gated short convolution")
    num_layers: int = declare(0, "number of layers, over which the specs repeat in turn; 0: one layer per spec")
    model_dim: int = declare(64, "width of the residual stream")
    num_heads: int = declare(2, "attention heads; must divide model_dim")
    num_kv_heads: int = declare(0, "key-value heads; must divide num_heads; 0: as many as num_heads")
    mlp_dim: int = declare(0, "hidden width of the MLP after every mixer; 0: no MLP")
    position: str = declare(
        "none", "spec of the position encoding, see --list_positions; several joined by '+': for the layers in turn"
    )
    layer: str = declare(
        "plain",
        "'paper' adds what a variant's paper puts around it, see --list_variants; several joined by '+': in turn",
        younger=True,
    )
    norm: str = declare("rms", "spec of the normalisation before every mixer and MLP, see --list_norms", younger=True)
    head_dim: int = declare(
        0,
        "channels of a head's queries and keys, and of its values unless value_dim says otherwise; 0: from model_dim",
        younger=True,
    )
    value_dim: int = declare(0, "channels of a head's values; 0: head_dim, or from model_dim", younger=True)
    short_conv: int = declare(0, "kernel size of a causal convolution before the projections; 0: none")
    token_shift: str = declare(
        "none", "mixing of attention's input with that of the previous token: none, lerp or ddlerp", younger=True
    )
    qk_shared: bool = declare(False, "all heads share one head of queries and keys", younger=True)
    key_expansion: float = declare(1.0, "width of all heads' queries, as a multiple of model_dim", younger=True)
    value_expansion: float = declare(1.0, "width of all heads' values, as a multiple of model_dim", younger=True)
    qkv_conv: int = declare(0, "kernel size of a causal convolution of queries, keys and values; 0: none", younger=True)
    conv_residual: bool = declare(False, "convolutions add their output to their input", younger=True)
    conv_silu: bool = declare(False, "SiLU after the convolution of queries, keys and values", younger=True)
    value_silu: bool = declare(False, "SiLU of the values", younger=True)
    qk_norm: bool = declare(False, "normalise queries and keys per head by their root mean square")
    skip: int = declare(
        0,
        "kernel size of a convolution of the values, added to the output; 1: the D x of state-space models; 0: none",
        younger=True,
    )
    output_gate: str = declare("none", "gate of attention's output: none, silu or sigmoid", younger=True)
    gate_per_head: bool = declare(False, "one output gate per head instead of one per channel", younger=True)
    gate_low_rank: bool = declare(False, "the gate's projection goes through value_dim channels", younger=True)
    output_norm: str = declare(
        "none", "norm of attention's output: none, head, group (of a head, with mean) or all (channels)", younger=True
    )
    norm_after_gate: bool = declare(False, "the output's norm follows its gate", younger=True)
    output_scale: float = declare(1.0, "constant that multiplies attention's output", younger=True)
    tied_embeddings: bool = declare(False, "unembed with the embedding matrix")
    bidirectional: bool = declare(
        False, "attention reads in both directions even where the task is causal", younger=True
    )
    readout: str = declare(
        "position",
        "'position' reads answers where the task asks for them, 'mean' from the mean of the row up to there",
        younger=True,
    )
    encoder: str = declare(
        "full", "specs of the layers that read a task's context in both directions, joined by '+'", younger=True
    )
    cross_attention: str = declare("full", "spec of every layer's attention to a task's context", younger=True)

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
            check_choice("model.layer", preset, PRESETS)
        check_choice("model.readout", self.readout, READOUTS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The section `train`."""

    batch_size: int = declare(64, "rows per step")
    steps: int = declare(1000, "maximum number of training steps, and the length of the schedule")
    learning_rate: float = declare(3e-3, "peak of the schedule")
    optimizer: str = declare("adamw", "spec of the optimizer, see --list_optimizers", younger=True)
    schedule: str = declare("cosine", "spec of the learning rate's schedule, see --list_schedules", younger=True)
    clip_norm: float = declare(1.0, "global norm to which gradients are clipped")
    eval_every: int = declare(100, "steps per compiled chunk, followed by one validation and one checkpoint")
    keep_checkpoints: str = declare(
        LAST,
        "checkpoints to keep: last, or every, which adds the parameters at the start and at each validation",
        younger=True,
    )
    solved_at: float = declare(0.99, "validation accuracy that counts as solved")
    stop_when_solved: bool = declare(True, "end the run once it has solved its task")
    dtype: str = declare(
        "float32",
        "dtype in which layers compute: float32 or bfloat16; parameters, softmax, states and losses stay float32",
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
        check_choice("train.keep_checkpoints", self.keep_checkpoints, (LAST, EVERY))
        check_choice("train.dtype", self.dtype, DTYPES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """The section `pretrain`: a run before this one, whose best parameters this one starts from."""

    task: str = declare("", "spec of the task to train on first, as a run of its own; empty: none", younger=True)
    steps: int = declare(0, "its maximum number of training steps; 0: as many as train.steps", younger=True)
    learning_rate: float = declare(0.0, "peak of its schedule; 0: that of train.learning_rate", younger=True)

    def check(self) -> None:
        """Raises ValueError, in one line, for a value out of range, or for settings of a pretraining without a task."""
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

    batch_size: int = declare(256, "rows per evaluation batch")
    validation_rows: int = declare(512, "rows of the validation stream, the same at every evaluation")
    test_rows: int = declare(2048, "rows of the test stream, drawn once")
    test_lengths: str = declare(
        "",
        "further lengths to test at, such as '128,256', or '41-80,81-160' for strings; causal models only",
        younger=True,
    )
    shifted: str = declare("", "further tasks to test on, specs joined by '|'", younger=True)

    def check(self) -> None:
        """Raises ValueError, in one line, for a value out of range."""
        check_integer("eval.batch_size", self.batch_size, 1, _LARGEST_BATCH)
        for name in ("validation_rows", "test_rows"):
            check_integer(f"eval.{name}", getattr(self, name), 1, _MOST_ROWS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The section `study`: how runs are compared and repeated. It is no part of any single run."""

    vary: tuple[str, ...] = declare((), "grid, such as ('model.attention=full|linear',); --vary replaces it")
    seeds: int = declare(1, "runs per cell of the grid, at seeds seed, seed + 1, ...; --seeds replaces it")
    select: tuple[str, ...] = declare(
        (), "varied keys chosen by validation accuracy, such as ('train.learning_rate',); --select replaces it"
    )
    search_seeds: int = declare(
        0, "runs per cell that choose study.select, at seeds of their own; study.seeds then applies to what is chosen"
    )
    match_by: str = declare(
        "",
        "the field that match solves for, such as model.mlp_dim or window_size; '': the first that fits",
    )
    match_target: int = declare(0, "what every row is to spend under match; 0: as much as the first row of its task")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises SpecError, with the nearest choices, for a value that is not one of them."""
    if value not in choices:
        raise ValueError(specs.unknown(name, value, choices))


def _check_divides(part: str, divisor: int, whole: str, value: int) -> None:
    if value % divisor:
        raise ValueError(f"`model.{part}` must divide `model.{whole}`; got {divisor} and {value}.")
