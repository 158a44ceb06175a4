"""The scale at which a mixer starts: rows that differ in it compare learning rates as much as mixers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.components.mixers import LayerSizes, Mixer
from experiments.config.run import Run

_ROWS, _MOST_TOKENS = 4, 512
# Each program is called once, so what compiles fastest finishes first.
_QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
if jax.__version_info__ < (0, 11):  # where the older emitters still exist, which take half the time
    _QUICK["xla_cpu_use_fusion_emitters"] = False


def start_rms(run: Run) -> tuple[float, ...]:
    """Returns, for each layer, the root mean square of what its mixer adds to the residual stream at step 0.

    The mixer reads random tokens of root mean square 1, as every norm before a mixer gives them, in rows of the task's
    length, or of 512 tokens if the task's are longer. Parameters are those of a fixed seed.
    """
    length = min(run.task.input_length, _MOST_TOKENS)
    return tuple(mixer_rms(mixer.portable(), sizes, length, run.causal) for mixer, sizes in run.built)


@functools.lru_cache(maxsize=256)
def mixer_rms(mixer: Mixer, sizes: LayerSizes, length: int, causal: bool) -> float:
    """Returns the root mean square of a mixer's output at step 0, see `start_rms`."""

    def measure() -> Any:
        layer = mixer.make_layer(sizes, nnx.Rngs(params=0, controls=1))
        x = jax.random.normal(jax.random.key(2), (_ROWS, length, sizes.model_dim))
        out = layer(x, causal=causal, positions=jnp.arange(length))
        return jnp.sqrt(jnp.mean(jnp.square(out)))

    return float(jax.jit(measure).lower().compile(compiler_options=_QUICK)())
