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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from attention_variants.cost import count_flops
from attention_variants.interface import Cost
from attention_variants.module import MultiHeadAttention
from experiments.analysis.state_capacity import state_bytes
from experiments.config import schema as settings
from experiments.config.schema import Settings
from experiments.model.transformer import Model, abstract_model
from experiments.training.step import gradient_step


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
      cache_bytes: decoding state at the task's length, see `information.state_bytes`, and what is kept of a context;
        0 where nothing is decoded.
    """
    graph, params = abstract_model(run)
    model = nnx.merge(graph, params)
    batch = jax.eval_shape(lambda: run.task.training_batch(run.task.sample(jax.random.key(0), run.train.batch_size)))
    row = jax.eval_shape(lambda: run.task.sample(jax.random.key(0), 1))
    executed = count_flops(lambda params, batch: gradient_step(run, graph, params, batch), params, batch)
    forward = count_flops(
        lambda params, row: nnx.merge(graph, params)(row.inputs, row.positions, context=row.context), params, row
    )
    attentions = _attentions(run, model)
    surplus = sum(_surplus_flops(run, attention) for attention in attentions)
    controls = sum(_size(nnx.state(attention.layer.controls)) for attention in attentions if attention.has_controls)
    return {
        "params": _size(params) - controls,
        "control_params": controls,
        "train_flops_executed": steps * executed,
        "train_flops_ideal": steps * (executed - surplus),
        "forward_flops_per_token": round(forward / run.task.input_length),
        "cache_bytes": _cache_bytes(run, attentions) if run.causal else 0,
    }


class _Attention(NamedTuple):
    """One attention of the model, and what it attends from and to."""

    layer: Any
    query_length: int
    key_length: int
    causal: bool
    across: bool = False  # from the row to its context

    @property
    def has_controls(self) -> bool:
        return self.layer.controls is not None

    def cost(self) -> Cost:
        layer, lengths = self.layer, (self.query_length, self.key_length)
        return layer.variant.cost(*lengths, layer.num_heads, layer.num_kv_heads, layer.head_dim, self.causal)


def _attentions(run: Settings, model: Model) -> list[_Attention]:
    """Returns the self-attentions of the row, those of the context, and those between the two."""
    length = run.task.input_length
    found = [_Attention(layer.mixer, length, length, run.causal) for layer in model.layers]
    if run.task.context is not None and model.encoder is not None:
        other = run.task.context.length
        found += [_Attention(layer.mixer, other, other, False) for layer in model.encoder.layers]
        found += [_Attention(layer.cross, length, other, False, across=True) for layer in model.layers]
    return [attention for attention in found if isinstance(attention.layer, MultiHeadAttention)]


def _surplus_flops(run: Settings, attention: _Attention) -> int:
    """What one attention executes in one training step beyond the ideal."""
    layer, rows = attention.layer, run.train.batch_size
    x = jax.ShapeDtypeStruct((rows, attention.query_length, run.model.model_dim), jnp.float32)
    query = jax.ShapeDtypeStruct((*x.shape[:2], layer.num_heads, layer.head_dim), jnp.float32)
    key = jax.ShapeDtypeStruct((rows, attention.key_length, layer.num_kv_heads, layer.head_dim), jnp.float32)
    controls = None
    if attention.has_controls:
        graph, params = nnx.split(layer.controls)  # its parameters are shapes, too
        controls = jax.eval_shape(lambda params, x: nnx.merge(graph, params)(x), params, x)

    def attend(query: Any, key: Any, value: Any, controls: Any) -> Any:
        return layer.variant(query, key, value, causal=attention.causal, controls=controls)

    def forward_and_backward(output_gradient: Any, *inputs: Any) -> Any:
        return jax.vjp(attend, *inputs)[1](output_gradient)

    executed = count_flops(forward_and_backward, query, query, key, key, controls)
    return executed - 3 * rows * attention.cost().ideal_flops


def _cache_bytes(run: Settings, attentions: list[_Attention]) -> int:
    """What the row keeps of itself, and of its context."""
    across = (attention.cost().cache_bytes for attention in attentions if attention.across)
    return state_bytes(run.model, run.task.input_length) + sum(across)


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
