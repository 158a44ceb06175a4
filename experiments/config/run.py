"""A run: a config read once, every spec in it built and every value checked. All that follows takes a `Run`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Self, TypeVar

from attention_variants import specs
from attention_variants.checks import check_integer
from attention_variants.layer_options import LayerOptions
from attention_variants.positions import NoPosition, Position, make_position
from experiments.components.attention import Attention
from experiments.components.convolution import MOST_TAPS
from experiments.components.mixers import LayerSizes, Mixer
from experiments.components.norms import Norm, make_norm
from experiments.components.optimizers import Optimizer, make_optimizer
from experiments.components.registry import make_attention, make_mixers
from experiments.components.schedules import Schedule, make_schedule
from experiments.config import identity
from experiments.config.other_rows import OtherRows, other_rows
from experiments.config.schema import Config
from experiments.config.sections import (
    MOST_LAYERS,
    NONE,
    PAPER,
    EvalConfig,
    ModelConfig,
    PretrainConfig,
    StudyConfig,
    TrainConfig,
)
from experiments.tasks.base import Task
from experiments.tasks.registry import make_task

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run. Runs with equal digests compute the same numbers."""

    config: Config
    task: Task
    mixers: tuple[Mixer, ...]  # of the specs in `model.attention`
    encoder: tuple[Mixer, ...]  # of the layers that read a context; empty without one
    cross: Attention | None  # to a context
    positions: tuple[Position, ...]  # of the specs in `model.position`
    norm: Norm
    optimizer: Optimizer
    schedule: Schedule
    tests: tuple[OtherRows, ...]  # on rows unlike those of training

    @classmethod
    def read(cls, config: Config) -> Self:
        """Builds everything that a config names.

        Raises:
          ValueError: something is unknown, out of range, or does not fit the rest; one line.
          NotImplementedError: the model cannot do what the task or a test asks for.
        """
        config.check()
        task = make_task(config.task)
        encoder, cross = _for_context(config.model, task)
        run = cls(
            config=config,
            task=task,
            mixers=make_mixers(config.model.attention),
            encoder=encoder,
            cross=cross,
            positions=tuple(make_position(spec) for spec in specs.split_layers(config.model.position)),
            norm=_named("model.norm", make_norm, config.model.norm),
            optimizer=_named("train.optimizer", make_optimizer, config.train.optimizer),
            schedule=_named("train.schedule", make_schedule, config.train.schedule),
            tests=other_rows(config.eval, task),
        )
        run._check()
        return run

    @property
    def model(self) -> ModelConfig:
        """The section `model` of the config."""
        return self.config.model

    @property
    def train(self) -> TrainConfig:
        """The section `train` of the config."""
        return self.config.train

    @property
    def eval(self) -> EvalConfig:
        """The section `eval` of the config."""
        return self.config.eval

    @property
    def seed(self) -> int:
        """What fixes data, initialisation and order."""
        return self.config.seed

    @property
    def presets(self) -> tuple[str, ...]:
        """What stands around attention, "plain" or "paper", as in `model.layer`."""
        return tuple(self.model.layer.split("+"))

    @functools.cached_property
    def built(self) -> tuple[tuple[Mixer, LayerSizes], ...]:
        """The mixer and the sizes of every layer: specs, positions and presets repeat in turn."""
        number = self.model.num_layers or len(self.mixers)
        return self._build(tuple(self.mixers[layer % len(self.mixers)] for layer in range(number)))

    @functools.cached_property
    def built_encoder(self) -> tuple[tuple[Mixer, LayerSizes], ...]:
        """Those of the layers that read a context; one layer per spec."""
        return self._build(self.encoder)

    @property
    def layers(self) -> tuple[Mixer, ...]:
        """The mixer of every layer."""
        return tuple(mixer for mixer, _ in self.built)

    @property
    def position(self) -> Position:
        """What acts at the model's input; encodings of several layers act in attention alone."""
        return self.positions[0] if len(self.positions) == 1 else NoPosition()

    @property
    def causal(self) -> bool:
        """Whether a token sees only what came before."""
        return self.task.causal and not self.model.bidirectional

    @property
    def options(self) -> LayerOptions:
        """What the section `model` puts around attention."""
        return LayerOptions(
            **{field.name: getattr(self.model, field.name) for field in dataclasses.fields(LayerOptions)}
        )

    @property
    def cross_sizes(self) -> LayerSizes:
        """Those of attention to a context, which gets no positions: those of two sequences have no common origin."""
        return self._sizes(NoPosition(), LayerOptions(qk_norm=self.model.qk_norm))

    def _sizes(self, position: Position, options: LayerOptions) -> LayerSizes:
        model = self.model
        num_kv_heads = model.num_kv_heads or model.num_heads
        widths = model.head_dim or None, model.value_dim or None
        return LayerSizes(model.model_dim, model.num_heads, num_kv_heads, position, options, *widths)

    def _build(self, mixers: tuple[Mixer, ...]) -> tuple[tuple[Mixer, LayerSizes], ...]:
        found, options = [], self.options
        for layer, mixer in enumerate(mixers):
            sizes = self._sizes(self.positions[layer % len(self.positions)], options)
            paper = self.presets[layer % len(self.presets)] == PAPER
            found.append(mixer.as_published(sizes, layer) if paper else (mixer, sizes))
        return tuple(found)

    @property
    def longest_input(self) -> int:
        """The length, in tokens, of the longest row that the model will read."""
        return max(task.input_length for task in (self.task, *(test.task for test in self.tests)))

    @functools.cached_property
    def digests(self) -> identity.Digests:
        """The names of the run and of its cell."""
        return identity.digests(self)

    @functools.cached_property
    def pretraining(self) -> Self | None:
        """The run, of the same seed, from whose best parameters this one starts; None if it starts from scratch."""
        wanted, train = self.config.pretrain, self.train
        if not wanted.task:
            return None
        train = dataclasses.replace(
            train, steps=wanted.steps or train.steps, learning_rate=wanted.learning_rate or train.learning_rate
        )
        config = dataclasses.replace(self.config, task=wanted.task, train=train, pretrain=PretrainConfig())
        try:
            return type(self).read(config)
        except (ValueError, NotImplementedError) as error:
            raise type(error)(f"pretrain.task={wanted.task}: {error}") from error

    @functools.cached_property
    def cell(self) -> Self:
        """The run that stands for all seeds of its cell: what is computed for it need not be computed for them."""
        train = dataclasses.replace(self.train, keep_checkpoints=TrainConfig.keep_checkpoints)
        config = dataclasses.replace(self.config, name="", seed=0, match=NONE, train=train, study=StudyConfig())
        return dataclasses.replace(self, config=config)

    def _check(self) -> None:
        """Raises for parts that do not fit each other."""
        for name in ("short_conv", "qkv_conv", "skip"):
            check_integer(f"model.{name}", getattr(self.model, name), 0, MOST_TAPS)
        try:
            self.schedule.check(self.train.steps)
        except ValueError as error:
            raise ValueError(f"train.schedule: {error}") from error
        self._check_layers()
        self._check_task()
        if self.pretraining is not None and self.pretraining.task == self.task:
            raise ValueError(
                "pretrain.task must differ from task: the same rows would come again; to train longer, set train.steps."
            )
        for test in self.tests:
            test.check(self.task, causal=self.causal, model=self.model)
        for task in (self.task, *(test.task for test in self.tests)):
            self._check_reach(task)

    def _check_layers(self) -> None:
        """Raises ValueError for more specs than layers, and for what only attention could use."""
        model, fewest = self.model, len(self.mixers)
        if fewest > MOST_LAYERS:
            raise ValueError(f"model.attention must name at most {MOST_LAYERS} layers; got {fewest}.")
        if 0 < model.num_layers < fewest:
            raise ValueError(
                f"model.num_layers must be 0 or at least {fewest}, one layer for each spec of model.attention "
                f"{model.attention!r}; got {model.num_layers}."
            )
        for name in ("position", "layer"):
            given = len({"position": self.positions, "layer": self.presets}[name])
            if given > len(self.layers):
                raise ValueError(
                    f"model.{name} must name at most one for each of the {len(self.layers)} layers; got {given}."
                )
        if len(self.positions) > 1 and any(position.acts_at_input() for position in self.positions):
            raise ValueError(
                f"model.position={model.position}: only encodings that act in attention can differ between layers."
            )
        self._check_attention()

    def _check_attention(self) -> None:
        """Raises ValueError for what does not fit around attention, or acts there although there is none."""
        model = self.model
        for mixer, sizes in (*self.built, *self.built_encoder):
            if mixer.attends:
                _ = sizes.heads
        if any(mixer.attends for mixer in self.mixers):
            return
        default = dataclasses.asdict(ModelConfig())
        options = (*(field.name for field in dataclasses.fields(LayerOptions)), "head_dim", "value_dim", "layer")
        useless = {f"model.position={model.position}": any(p.acts_in_attention() for p in self.positions)} | {
            f"model.{name}={getattr(model, name)}": getattr(model, name) != default[name] for name in options
        }
        for setting, given in useless.items():
            if given:
                raise ValueError(f"{setting} acts in attention layers; model.attention {model.attention!r} has none.")

    def _check_reach(self, task: Task) -> None:
        """Raises ValueError for rows in which the ceiling could not be counted."""
        for mixer in self.mixers:
            mixer.check_length(task.input_length, self.causal)
        for mixer in self.encoder if task.context else ():
            mixer.check_length(task.context.length, causal=False)  # type: ignore[union-attr]

    def _check_task(self) -> None:
        """Raises for a model that cannot be given the task."""
        task, model, name = self.task, self.model, type(self.task).__name__
        if model.bidirectional and task.answers_follow:
            raise NotImplementedError(
                f"rows of {name} hold the answers further on, where a bidirectional model would read them; "
                "model.bidirectional must be false."
            )
        if model.readout == "mean" and task.num_scored() != 1:
            raise ValueError(f"model.readout=mean gives one answer a row; {name} asks for {task.num_scored()}.")
        numbers = task.tolerance is not None and not task.distributions
        if model.tied_embeddings and (task.input_channels or numbers):
            raise ValueError(f"model.tied_embeddings needs tokens as inputs and targets; {name} has numbers.")


def _for_context(model: ModelConfig, task: Task) -> tuple[tuple[Mixer, ...], Attention | None]:
    """Returns encoder and cross-attention; neither where the task has no context."""
    if task.context is not None:
        encoder = _named("model.encoder", make_mixers, model.encoder)
        return encoder, _named("model.cross_attention", make_attention, model.cross_attention)
    for field in ("encoder", "cross_attention"):
        if getattr(model, field) != "full":
            raise ValueError(
                f"model.{field}={getattr(model, field)} needs a task with a context, such as translation; "
                f"{type(task).__name__} has none."
            )
    return (), None


def _named(field: str, make: Callable[[Any], T], spec: str) -> T:
    """Builds what a field names; its errors begin with the field."""
    try:
        return make(spec)
    except specs.SpecError as error:
        raise specs.SpecError(f"{field}: {error}") from error
