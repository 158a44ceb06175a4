"""What a layer puts around its attention: convolutions, norms, gates and the like, all off by default."""

import dataclasses

from attention_variants.checks import check_choice, check_integer, check_number

SHIFTS = ("none", "lerp", "ddlerp")
GATES = ("none", "silu", "sigmoid")
NORMS = ("none", "head", "group", "all")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """What `MultiHeadAttention` does before and after the variant; the order of the fields is that of the computation.

    A variant's `paper_layer` names what its paper puts there. Parameters of options, except those of `qk_norm` and
    `short_conv`, are drawn from the stream `controls`, so that the projections of all layers are the same.

    Attributes:
      short_conv: taps of a causal depthwise convolution of x; 0: none.
      token_shift: queries, keys, values, controls and the gate each read a mixture of x and the token before it:
        "lerp" by a learned share per channel, "ddlerp" by one that depends on both tokens through a map of rank 32
        (Peng et al. 2024, "Eagle and Finch", arXiv:2404.05892, equations 10 to 12).
      qk_shared: one head of queries and keys, which all heads share; values are their own (multi-value attention of
        Dao and Gu 2024, arXiv:2405.21060, section 7.2).
      key_expansion: head_dim times the number of heads, as a multiple of model_dim.
      value_expansion: value_dim times the number of heads, as a multiple of model_dim.
      qkv_conv: taps of a causal depthwise convolution of queries, keys and values after their projections; 0: none.
      conv_residual: the convolutions add their output to their input, as Canon layers do (Allen-Zhu 2025).
      conv_silu: SiLU after `qkv_conv`.
      value_silu: SiLU of the values.
      qk_norm: root-mean-square norm of queries and keys per head, with a learned scale per channel.
      skip: taps of a depthwise convolution of the values with one kernel per head, added to the output: causal, or
        centred where the layer is bidirectional. 1 is the "D x" of state-space models.
      output_gate: multiplies the output by silu or sigmoid of a projection of x, channel by channel.
      gate_per_head: one gate per head instead.
      gate_low_rank: the gate's projection goes through value_dim channels, and its second map has a bias.
      output_norm: norm of the output, with a learned scale that starts at 0.4, about the scale at which softmax
        attention starts: root mean square per "head" or over "all" channels, or mean and variance per head ("group",
        with an offset).
      norm_after_gate: the norm follows the gate; otherwise it precedes it.
      output_scale: a constant that multiplies the output last.

    Raises:
      ValueError: a value is out of range, or of no use with the others.
    """

    short_conv: int = 0
    token_shift: str = "none"
    qk_shared: bool = False
    key_expansion: float = 1.0
    value_expansion: float = 1.0
    qkv_conv: int = 0
    conv_residual: bool = False
    conv_silu: bool = False
    value_silu: bool = False
    qk_norm: bool = False
    skip: int = 0
    output_gate: str = "none"
    gate_per_head: bool = False
    gate_low_rank: bool = False
    output_norm: str = "none"
    norm_after_gate: bool = False
    output_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("short_conv", "qkv_conv", "skip"):
            check_integer(name, getattr(self, name), 0)
        check_choice("token_shift", self.token_shift, SHIFTS)
        check_choice("output_gate", self.output_gate, GATES)
        check_choice("output_norm", self.output_norm, NORMS)
        for name in ("key_expansion", "value_expansion", "output_scale"):
            check_number(name, getattr(self, name), 1e-3, 1e3)
        self._check_use()

    def text(self) -> str:
        """Returns what is on, as fields of a spec: "qkv_conv=4,value_silu=True"; empty where all is off."""
        fields = ((field.name, getattr(self, field.name), field.default) for field in dataclasses.fields(self))
        shown = ((name, f"{value:g}" if type(value) is float else value) for name, value, off in fields if value != off)
        return ",".join(f"{name}={value}" for name, value in shown)

    def _check_use(self) -> None:
        """Raises ValueError where an option changes another one that is off."""
        gated, normed = self.output_gate != "none", self.output_norm != "none"
        needs = {
            "conv_residual": (self.conv_residual, self.short_conv or self.qkv_conv, "`short_conv` or `qkv_conv`"),
            "conv_silu": (self.conv_silu, self.qkv_conv, "`qkv_conv`"),
            "gate_per_head": (self.gate_per_head, gated, "`output_gate`"),
            "gate_low_rank": (self.gate_low_rank, gated, "`output_gate`"),
            "norm_after_gate": (self.norm_after_gate, gated and normed, "`output_gate` and `output_norm`"),
        }
        for name, (given, used, what) in needs.items():
            if given and not used:
                raise ValueError(f"`{name}` needs {what}, which is off.")
        if self.gate_low_rank and self.gate_per_head:
            raise ValueError("`gate_low_rank` is of gates per channel; got `gate_per_head` too.")
