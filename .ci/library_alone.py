"""Uses the installed library where there is no checkout: every variant once, then one law from the command line.

Run it from an empty folder, with the folder of the installation on PYTHONPATH.
"""

import functools
import importlib.util
import subprocess
import sys

import jax
from flax import nnx

from attention_variants import make_variant
from attention_variants.interface import HeadSizes
from attention_variants.registry import VARIANTS

LENGTH, HEADS, HEAD_DIM, MODEL_DIM = 16, 2, 8, 16


def call(name: str) -> None:
    """Builds a variant from its name and calls it; raises AssertionError where the output is not finite."""
    variant = make_variant(name)
    query, key, value = jax.random.normal(jax.random.key(0), (3, 1, LENGTH, HEADS, HEAD_DIM))
    module = variant.make_controls(MODEL_DIM, HeadSizes(HEADS, HEADS, HEAD_DIM, HEAD_DIM), rngs=nnx.Rngs(0))
    controls = None if module is None else module(jax.random.normal(jax.random.key(1), (1, LENGTH, MODEL_DIM)))
    attend = jax.jit(functools.partial(variant, causal=variant.supports_causal))
    out = attend(query, key, value, controls=controls)
    assert out.shape == value.shape and bool(jax.numpy.isfinite(out).all()), name


def main() -> int:
    """Returns the exit code."""
    for package in ("experiments", "configs", "tests"):
        assert importlib.util.find_spec(package) is None, f"{package} is installed, too"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_disable_most_optimizations", True)  # compiles much and computes little
    for name in VARIANTS:
        call(name)
    print(f"{len(VARIANTS)} variants built and called")
    law = ["--variant=full", "--law=weights_follow_pattern"]
    return subprocess.run([sys.executable, "-m", "attention_variants.conformance", *law], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
