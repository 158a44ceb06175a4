"""The layers of a model: a mixer, attention to a context where there is one, and an MLP, each after a norm."""

from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float, Int

from attention_variants.module import MultiHeadAttention
from attention_variants.surroundings import linear
from experiments.components.mixers import LayerSizes, Mixer, Stream
from experiments.config.run import Run
from experiments.model.hooks import NONE, Hooks, Site


class KeptContext(NamedTuple):
    """What a layer keeps of a context while decoding."""

    key: Float[Array, "batch context_length num_kv_heads head_dim"]
    value: Float[Array, "batch context_length num_kv_heads value_dim"]


class MLP(nnx.Module):
    """Linear, GELU, Linear, in the dtype of the input."""

    def __init__(self, model_dim: int, mlp_dim: int, rngs: nnx.Rngs):
        self.up = linear(model_dim, mlp_dim, rngs, use_bias=True)
        self.down = linear(mlp_dim, model_dim, rngs, use_bias=True)

    def __call__(self, x: Float[Array, "tokens model_dim"]) -> Float[Array, "tokens model_dim"]:
        """Applies the MLP to tokens on one axis."""
        return self.down(jax.nn.gelu(self.up(x)))


class Layer(nnx.Module):
    """x + mixer(norm(x)), with a context x + cross(norm(x), context), then x + mlp(norm(x)) if there is an MLP."""

    def __init__(self, mixer: Mixer, sizes: LayerSizes, run: Run, rngs: nnx.Rngs, *, reads_context: bool = False):
        model_dim, mlp_dim = run.model.model_dim, run.model.mlp_dim
        # The MLP's key comes first, so that it is the same whatever the mixer draws.
        mlp_rngs = nnx.Rngs(params=rngs.params())
        self.cross_norm = run.norm.make_layer(model_dim) if reads_context else None
        self.cross = _make_cross(run, rngs) if reads_context else None
        self.norm = run.norm.make_layer(model_dim)
        self.mixer: Any = mixer.make_layer(sizes, rngs)
        self.mlp_norm = run.norm.make_layer(model_dim) if mlp_dim else None
        self.mlp = MLP(model_dim, mlp_dim, mlp_rngs) if mlp_dim else None

    def __call__(
        self,
        x: Stream,
        *,
        causal: bool,
        positions: Int[Array, " length"],
        context: Stream | None = None,
        site: Site = Site(0),  # noqa: B008 - frozen
        hooks: Hooks = NONE,
    ) -> Stream:
        """Applies the layer to a whole sequence whose tokens are at `positions`; `hooks` are given the `site`."""
        x = x + hooks.mix(site, self.mixer, flat(self.norm, x), causal=causal, positions=positions)
        if self.cross is not None and self.cross_norm is not None:
            across = site._replace(part="cross")
            x = x + hooks.mix(across, self.cross, flat(self.cross_norm, x), context=context, causal=False)
        return hooks.stream(site, self._feed_forward(x))

    def keep(self, context: Stream) -> KeptContext | None:
        """Returns what `extend` needs of a context; None for a layer that reads none."""
        if self.cross is None:
            return None
        mixing = self.cross.prepare(context, context=context, causal=False)
        return KeptContext(mixing.key, mixing.value)

    def extend(self, cache: Any, x: Stream, kept: KeptContext | None = None) -> tuple[Stream, Any]:
        """Continues a sequence by one or more tokens; `kept` is what `keep` gave."""
        mixed, cache = self.mixer.extend(cache, flat(self.norm, x))
        x = x + mixed
        if self.cross is not None and self.cross_norm is not None and kept is not None:
            # The keys and values of x itself are not used, hence never computed.
            mixing = self.cross.prepare(flat(self.cross_norm, x), context=x, causal=False)
            mixing = mixing._replace(key=kept.key, value=kept.value)
            x = x + self.cross.finish(mixing, self.cross.attend(mixing))
        return self._feed_forward(x), cache

    def _feed_forward(self, x: Stream) -> Stream:
        if self.mlp is None or self.mlp_norm is None:
            return x
        return x + flat(self.mlp, flat(self.mlp_norm, x))


def _make_cross(run: Run, rngs: nnx.Rngs) -> MultiHeadAttention:
    if run.cross is None:
        raise ValueError(f"{type(run.task).__name__} has no context to attend to.")
    return run.cross.make_layer(run.cross_sizes, nnx.Rngs(params=rngs.params(), controls=rngs.params()))


def flat(function: Any, x: Stream) -> Array:
    """Applies `function` to tokens flattened to one axis, which XLA on CPU runs several times faster than two."""
    return function(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
