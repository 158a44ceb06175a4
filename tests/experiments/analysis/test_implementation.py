"""Which library computes attention changes no cost and no name of a run."""

import pytest

from attention_variants.engines.fused_softmax import IMPLEMENTATIONS
from experiments.analysis.start import start_rms
from experiments.config.run import Run
from experiments.training import loop
from tests.experiments.tiny import tiny_cost, tiny_run

HALF = {"train__dtype": "bfloat16", "model__num_heads": 1, "model__head_dim": 16}


@pytest.mark.parametrize("spec", ["full:implementation=", "sliding_window:window_size=5,implementation="])
def test_costs_and_names_do_not_know_the_implementation(spec):
    counted = [tiny_cost(model__attention=f"conv+{spec}{name}", **HALF) for name in IMPLEMENTATIONS]
    assert counted[1:] == counted[:-1]
    plain, default = (
        tiny_run(model__attention=s) for s in (spec.rpartition(":" if "," not in spec else ",")[0], spec + "auto")
    )
    assert plain.digests == default.digests and isinstance(plain, Run)


def test_what_attends_to_a_context_is_counted_so_too():
    found = [
        tiny_cost(task="translation", model__cross_attention=f"full:implementation={n}", **HALF)
        for n in IMPLEMENTATIONS
    ]
    assert found[1:] == found[:-1]


def test_a_start_is_measured_without_the_kernel():
    xla, cudnn = (
        start_rms(tiny_run(model__attention=f"full:implementation={name}", **HALF)) for name in ("xla", "cudnn")
    )
    assert xla == cudnn


def test_a_run_that_cannot_have_the_kernel_is_refused_before_it_trains():
    for dtype, says in (("float32", "all in bfloat16"), ("bfloat16", "cuDNN is not detected")):
        run = tiny_run(**(HALF | {"train__dtype": dtype, "model__attention": "full:implementation=cudnn"}))
        with pytest.raises(NotImplementedError, match=says):
            loop.validate(run)
