"""What `model.attention` can name: attention variants, and what may stand in their place."""

from typing import Any

from attention_variants import specs
from attention_variants.registry import VARIANTS, make_variant
from experiments.components.attention import Attention
from experiments.components.convolution import GatedConvolution
from experiments.components.mixers import Mixer
from experiments.components.recurrent import GRU, LSTM

MIXERS: dict[str, type[Mixer]] = {"conv": GatedConvolution, "lstm": LSTM, "gru": GRU}


def make_mixers(text: str) -> tuple[Mixer, ...]:
    """Builds the mixers of a hybrid such as `conv+sliding_window:window_size=64`, one for each spec.

    Raises:
      SpecError: an unknown name or field, or a value of the wrong type or out of range; one line.
    """
    return tuple(_make_mixer(spec) for spec in specs.split_layers(text))


def join_specs(mixers: tuple[Mixer, ...]) -> str:
    """Returns the shortest text that `make_mixers` turns into `mixers`."""
    return "+".join(mixer.spec() for mixer in mixers)


def make_attention(spec: str) -> Attention:
    """Builds an attention from the spec of a variant; raises SpecError."""
    return Attention(variant=make_variant(spec))


def _make_mixer(spec: str) -> Mixer:
    known: dict[str, type] = {**VARIANTS, **MIXERS}
    built: Any = specs.build(spec, known, "attention variant")
    return built if type(built) in MIXERS.values() else Attention(variant=built)
