"""What `train.schedule` can name: the learning rate of every step, as a share of its peak."""

import abc
import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from attention_variants import specs
from attention_variants.checks import check_integer, check_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(abc.ABC):
    """A linear warm-up from 0 to the peak, then the shape that names the schedule.

    Step 0 of a warm-up has rate 0 and changes no parameter.
    """

    summary: ClassVar[str]

    warmup_steps: int = 100  # steps before the peak

    def __post_init__(self) -> None:
        check_integer("warmup_steps", self.warmup_steps, 0)

    def check(self, steps: int) -> None:
        """Raises ValueError where a run of `steps` steps ends before its warm-up does."""
        if self.warmup_steps > steps:
            raise ValueError(
                f"warmup_steps must be at most `train.steps`; got {self.warmup_steps} and {steps}. Shorten it, "
                f"for example to warmup_steps={steps // 10}."
            )

    def share(self, step: Int[Array, ""], steps: int) -> Float[Array, ""]:
        """Returns the learning rate of step 0, 1, ... of a run of `steps` steps, divided by its peak."""
        warmup = step / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / max(steps - self.warmup_steps, 1)
        return jnp.where(step < self.warmup_steps, warmup, self.after_warmup(progress))

    @abc.abstractmethod
    def after_warmup(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """Returns the share at `progress`, from 0 at the end of the warm-up to 1 at the end of the run."""


class Cosine(Schedule):
    """Half a cosine from the peak to 0.

    References:
      Loshchilov and Hutter 2017, "SGDR", arXiv:1608.03983, equation 5 without restarts.
    """

    summary = "half a cosine to 0"

    def after_warmup(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """Returns (1 + cos(pi * progress)) / 2."""
        return 0.5 * (1 + jnp.cos(jnp.pi * progress))


class Linear(Schedule):
    """A straight line from the peak to 0."""

    summary = "a straight line to 0"

    def after_warmup(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """Returns 1 - progress."""
        return 1 - progress


class Constant(Schedule):
    """The peak."""

    summary = "the peak until the end"

    def after_warmup(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """Returns 1."""
        return jnp.ones_like(progress)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmupStableDecay(Schedule):
    """The peak, then a straight line to 0 over the last share `decay` of the steps after the warm-up.

    References:
      Hu et al. 2024, "MiniCPM", arXiv:2404.06395, section 4, with a linear decay.
    """

    summary = "the peak, then a straight line to 0 at the end"

    decay: float = 0.2  # share of the steps after the warm-up

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("decay", self.decay, 1e-3, 1.0)

    def after_warmup(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """Returns min(1, (1 - progress) / decay)."""
        return jnp.minimum(1.0, (1 - progress) / self.decay)


SCHEDULES: dict[str, type[Schedule]] = {
    "cosine": Cosine,
    "linear": Linear,
    "constant": Constant,
    "wsd": WarmupStableDecay,
}


def make_schedule(spec: str) -> Schedule:
    """Builds a schedule from its name or a spec string such as `cosine:warmup_steps=200`; raises SpecError."""
    return specs.build(spec, SCHEDULES, "schedule")
