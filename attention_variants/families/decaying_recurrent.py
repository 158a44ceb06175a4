"""Linear recurrences whose state decays: what such variants share."""

import dataclasses

from attention_variants.families.recurrent import RecurrentVariant


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecayingRecurrentVariant(RecurrentVariant):
    """Unnormalised and causal only: a decay has a direction, and without normalisation it shrinks what is read."""

    supports_bidirectional = False
    supports_cross = False
    normalised = False
    cost_order = "length * (chunk_size + head_dim) * head_dim"
    state_order = "head_dim * value_dim"
