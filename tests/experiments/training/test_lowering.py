"""A training step, data, gradient and optimizer included, lowers for accelerators without one."""

import functools

import pytest
from jax import export

from attention_variants.conformance.lowering import PLATFORMS
from experiments.model.transformer import abstract_model
from experiments.training import step
from experiments.training.parallel import Devices
from tests.experiments.tiny import tiny_run


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_chunk_of_steps_lowers(dtype):
    run = tiny_run(
        model__attention="conv+full+gated_delta", model__mlp_dim=17, model__layer="paper", train__dtype=dtype
    )
    graph, params = abstract_model(run)
    chunk = Devices().jit(functools.partial(step._chunk, run, graph, Devices()), donate_argnums=0)
    lowered = export.export(chunk, platforms=PLATFORMS)(*step._abstract_arguments(run, params))
    assert lowered.platforms == PLATFORMS and ("bf16" in lowered.mlir_module()) == (dtype == "bfloat16")
