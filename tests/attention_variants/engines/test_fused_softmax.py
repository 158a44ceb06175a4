"""cuDNN's kernel: which calls go to it, what is refused, what is lowered; and that the call says the same as ours.

Where there is no GPU the kernel does not run, so its numbers are not compared here. What is compared is XLA's form of
the very same call, with its scale, groups of heads and window.
"""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import export

from attention_variants.conformance.inputs import (
    HEADS,
    Arguments,
    LawBroken,
    SlopeBias,
    call,
    call_dense,
    cast,
    expect_close,
    ones_of_output,
    step,
    with_gradients,
)
from attention_variants.engines import fused_softmax
from attention_variants.engines.fused_softmax import IMPLEMENTATIONS
from attention_variants.registry import make_variant
from attention_variants.specs import SpecError

FULL, WINDOW = "full", "sliding_window:window_size=5"
SPECS = {name: f"{name}{':' if name == FULL else ','}implementation=" for name in (FULL, WINDOW)}
LENGTH = 16


def arguments(dtype=jnp.bfloat16, head_dim=8, value_dim=8, length=LENGTH):
    shapes = ((4, head_dim), (2, head_dim), (2, value_dim))
    rngs = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(rng, (2, length, *shape), dtype) for rng, shape in zip(rngs, shapes, strict=True)]


@pytest.fixture
def cudnn_is_installed(monkeypatch):
    """JAX asks for the version of the library before it traces anything."""
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000)


@pytest.fixture
def on_cuda(monkeypatch, cudnn_is_installed):
    class Device:
        platform, compute_capability = "gpu", "8.0"
        client = type("Client", (), {"platform_version": "cuda 12090"})

    def reaches(capability):
        return float(Device.compute_capability) >= float(capability)

    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_compute_capability", reaches)
    monkeypatch.setattr(jax, "devices", lambda *_: [Device])
    return Device


def calls_cudnn(spec, *given, **options):
    return "dot_product_attention_fwd" in str(jax.make_jaxpr(lambda *qkv: make_variant(spec)(*qkv, **options))(*given))


MASK = jnp.ones((2, LENGTH), bool)
BIAS = SlopeBias(jnp.ones(4, jnp.bfloat16))
MISFITS = {
    "float32": (FULL, arguments(jnp.float32), {}, "all in bfloat16 or all in float16; got float32, float32, float32"),
    "a narrow head": (FULL, arguments(head_dim=4, value_dim=4), {}, "multiple of 8, at most 256; got 4"),
    "a wide head": (FULL, arguments(head_dim=264, value_dim=264), {}, "multiple of 8, at most 256; got 264"),
    "wide values": (FULL, arguments(value_dim=16), {}, "values as wide as keys; got 16 and 8"),
    "a mask": (WINDOW, arguments(), {"key_mask": MASK}, "no key_mask"),
    "a bias": (WINDOW, arguments(), {"bias": BIAS}, "no position bias"),
    "a window both ways": (WINDOW, arguments(), {"causal": False}, "causal=True for a window; got causal=False"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_call_that_does_not_fit_is_refused_and_auto_takes_xla(case, on_cuda):
    spec, given, options, says = MISFITS[case]
    with pytest.raises(NotImplementedError, match=f"`implementation` cudnn needs .*{says}") as caught:
        make_variant(SPECS[spec] + "cudnn")(*given, **options)
    assert "\n" not in str(caught.value) and str(caught.value).endswith("Choose auto or xla.")
    assert not calls_cudnn(spec, *given, **options)


@pytest.mark.parametrize("spec", SPECS)
def test_auto_takes_the_kernel_on_cuda_alone(spec, on_cuda):
    given = arguments()
    assert calls_cudnn(spec, *given) and not calls_cudnn(SPECS[spec] + "xla", *given)
    on_cuda.compute_capability = "7.5"
    assert not calls_cudnn(spec, *given)
    wide = arguments(head_dim=136, value_dim=136)
    for capability, fits in (("8.9", False), ("9.0", True)):
        on_cuda.compute_capability = capability
        assert calls_cudnn(spec, *wide) == fits
    on_cuda.compute_capability = "8.9"
    with pytest.raises(NotImplementedError, match="cudnn: The head dim must be <= 128.* got 136. Choose auto or xla."):
        make_variant(SPECS[spec] + "cudnn")(*wide)
    on_cuda.client.platform_version = "rocm 6"
    assert not calls_cudnn(spec, *given)


def test_without_a_gpu_auto_is_xla_and_cudnn_is_refused_in_one_line():
    assert not calls_cudnn(FULL, *arguments())
    with pytest.raises(NotImplementedError, match=r"cudnn: cuDNN is not detected. Choose auto or xla\.$") as caught:
        make_variant(SPECS[FULL] + "cudnn")(*arguments())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec, causal, says", [(FULL, True, "CAUSAL"), (FULL, False, "NO_MASK"), (WINDOW, True, "CAUSAL")]
)
def test_the_kernel_is_lowered_for_cuda(spec, causal, says, cudnn_is_installed):
    variant = make_variant(SPECS[spec] + "cudnn")

    def both(*given):
        out, pull = jax.vjp(lambda *qkv: variant(*qkv, causal=causal), *given)
        return pull(out)

    kernels = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward")
    checks = [export.DisabledSafetyCheck.custom_call(name) for name in kernels]
    text = export.export(jax.jit(both), platforms=["cuda"], disabled_checks=checks)(*arguments()).mlir_module()
    for name in kernels:
        (line,) = [line for line in text.splitlines() if f"@{name}(" in line]
        config = line.replace("\\22", '"')
        assert f'"mask_type": "{says}"' in config
        (window,) = re.findall(r'"sliding_window_length": (\d+)', config) or ["0"]
        assert int(window) == (5 if spec == WINDOW else 0)
    assert "dot_general" not in text


LAWS = [(FULL, True), (FULL, False), (WINDOW, True), ("sliding_window:window_size=1", True)]


def same_as_definition(spec, causal):
    variant, given = make_variant(spec), Arguments(*arguments(length=37), None)
    ones = ones_of_output(given)
    found = with_gradients(lambda arguments: call(variant, arguments, causal=causal))(given, ones)
    expected = step(call_dense, variant, causal)(*cast((given, ones), jnp.float32))
    expect_close("(output, gradients)", found, expected[:2], 4e-2)


@pytest.mark.parametrize("spec, causal", LAWS)
def test_the_call_means_what_the_definition_says(spec, causal, on_cuda, monkeypatch):
    monkeypatch.setattr(fused_softmax, "_KERNEL", "xla")
    asked = []
    attend = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *a, **k: asked.append(k) or attend(*a, **k))
    same_as_definition(spec, causal)
    assert asked, "the block engine was not compared with itself"


def test_a_window_that_is_one_too_wide_is_caught(on_cuda, monkeypatch):
    attend = jax.nn.dot_product_attention

    def wider(*given, local_window_size, **options):
        return attend(*given, local_window_size=(local_window_size[0] + 1, 0), **options)

    monkeypatch.setattr(fused_softmax, "_KERNEL", "xla")
    monkeypatch.setattr(jax.nn, "dot_product_attention", wider)
    with pytest.raises(LawBroken, match="differs"):
        same_as_definition(WINDOW, True)


def test_the_portable_form_is_the_same_function_and_costs_the_same():
    for spec in SPECS:
        one, *others = (make_variant(SPECS[spec] + name).cost(37, 37, HEADS, True) for name in IMPLEMENTATIONS)
        assert others == [one, one] and make_variant(spec).portable == make_variant(SPECS[spec] + "xla")


def test_another_word_is_refused():
    with pytest.raises(SpecError, match="full: `implementation` must be one of auto, cudnn, xla; got 'cuda'."):
        make_variant("full:implementation=cuda")
