"""What a run costs: parameters, training and inference FLOPs, decoding state. Counted from the program, not guessed.

FLOPs are those of matrix products, one multiply-add being 2; elementwise work, such as the depthwise convolutions of a
few taps, is not counted. *Executed* counts the gradient step as it
is traced. *Ideal* replaces the attention in it by what its permitted query-key pairs need at least: with attention(x)
the counted FLOPs of one layer's forward and backward pass on one row, and ideal(x) its `Cost.ideal_flops`,

    ideal = executed - sum over layers x of batch_size * (attention(x) - 3 * ideal(x))

since every product of the forward pass has two in the backward pass, and an ideal one recomputes nothing. Projections,
convolutions, controls, MLP and unembedding count the same in both.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from attention_variants.cost import count_flops
from experiments import settings
from experiments.mixers import LayerMixer
from experiments.model import Mixer, abstract_model, layer_mixers
from experiments.program import gradient_step
from experiments.settings import Settings

_SCALAR_BYTES = 4


def compute(config: Mapping[str, Any]) -> dict[str, int]:
    """Returns what `config` costs if it takes all its steps; trains nothing. The keys are those of `count`."""
    run = settings.read(config)
    return count(run, run.train.steps)


def count(run: Settings, steps: int) -> dict[str, int]:
    """Counts one run.

    Args:
      run: the run.
      steps: training steps to charge; evaluation is not charged.

    Returns:
      params: scalars that all variants share; control_params: those of the variants' controls.
      train_flops_executed, train_flops_ideal: of `steps` steps, see the module.
      forward_flops_per_token: executed by one row's forward pass, divided by its length.
      cache_bytes: decoding state at the task's length, all layers, 4 bytes a scalar; 0 where nothing is decoded.
    """
    graph, params = abstract_model(run)
    model = nnx.merge(graph, params)
    batch = jax.eval_shape(lambda: run.task.training_batch(run.task.sample(jax.random.key(0), run.train.batch_size)))
    row = jax.eval_shape(lambda: run.task.sample(jax.random.key(0), 1))
    executed = count_flops(lambda params, batch: gradient_step(graph, params, batch), params, batch)
    forward = count_flops(lambda params, row: nnx.merge(graph, params)(row.inputs, row.positions), params, row)
    layers = list(zip(layer_mixers(run.model), (layer.mixer for layer in model.layers), strict=True))
    surplus = sum(_surplus_flops(run, layer) for mixer, layer in layers if not isinstance(mixer, LayerMixer))
    controls = sum(_size(nnx.state(layer.mixer.controls)) for layer in model.layers if _has_controls(layer.mixer))
    return {
        "params": _size(params) - controls,
        "control_params": controls,
        "train_flops_executed": steps * executed,
        "train_flops_ideal": steps * (executed - surplus),
        "forward_flops_per_token": round(forward / run.task.input_length),
        "cache_bytes": sum(_cache_bytes(run, *both) for both in layers) if run.causal else 0,
    }


def _surplus_flops(run: Settings, mixer: Any) -> int:
    """What the attention of one layer executes in one training step beyond the ideal."""
    shape = (run.train.batch_size, run.task.input_length)
    x = jax.ShapeDtypeStruct((*shape, run.model.model_dim), jnp.float32)
    query = jax.ShapeDtypeStruct((*shape, mixer.num_heads, mixer.head_dim), jnp.float32)
    key = jax.ShapeDtypeStruct((*shape, mixer.num_kv_heads, mixer.head_dim), jnp.float32)
    controls = None
    if _has_controls(mixer):
        graph, params = nnx.split(mixer.controls)  # its parameters are shapes, too
        controls = jax.eval_shape(lambda params, x: nnx.merge(graph, params)(x), params, x)

    def attend(query: Any, key: Any, value: Any, controls: Any) -> Any:
        return mixer.variant(query, key, value, causal=run.causal, controls=controls)

    def forward_and_backward(output_gradient: Any, *inputs: Any) -> Any:
        return jax.vjp(attend, *inputs)[1](output_gradient)

    executed = count_flops(forward_and_backward, query, query, key, key, controls)
    return executed - 3 * run.train.batch_size * _cost(run, mixer).ideal_flops


def _cost(run: Settings, mixer: Any) -> Any:
    length = run.task.input_length
    return mixer.variant.cost(length, length, mixer.num_heads, mixer.num_kv_heads, mixer.head_dim, run.causal)


def _cache_bytes(run: Settings, mixer: Mixer, layer: Any) -> int:
    """A convolution is charged all its taps, as published counts do, though the present token needs no keeping."""
    if isinstance(mixer, LayerMixer):
        return mixer.state_bytes(run.model.model_dim)
    return _cost(run, layer).cache_bytes + _SCALAR_BYTES * run.model.short_conv * run.model.model_dim


def _has_controls(mixer: Any) -> bool:
    return getattr(mixer, "controls", None) is not None


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
