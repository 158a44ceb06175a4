"""The studies that come with the code: each loads, expands and names runs that can be built."""

import functools
import pathlib

import pytest

from attention_variants import specs
from attention_variants.registry import VARIANTS
from configs import catalogue, catalogue_encoder
from experiments.analysis.compute import compute
from experiments.components.mixers import MIXERS
from experiments.config import schema as settings
from experiments.model.layers import layer_mixers
from experiments.studies import grid as study
from tests.experiments.tiny import tiny_config

CONFIGS = sorted(
    path for path in (pathlib.Path(__file__).parents[3] / "configs").glob("*.py") if path.stem != "__init__"
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_study_expands_to_runs(path):
    runs = study.expand(study.load_config(str(path)), (), None)
    assert len({str(run) for run in runs}) == len(runs) >= 1
    for run in runs:
        assert layer_mixers(settings.read(run).model)


def names(mixers):
    return {specs.parse_spec(spec)[0] for spec in mixers}


def test_the_catalogue_leaves_nobody_out():
    assert names(catalogue.CAUSAL) == {name for name, kind in VARIANTS.items() if kind.supports_causal}
    assert names(catalogue_encoder.BIDIRECTIONAL) >= {
        name for name, kind in VARIANTS.items() if not kind.supports_causal
    }
    assert names(catalogue.RECURRENT) == set(MIXERS) - {"conv"}


@functools.cache
def params_of_full_attention():
    return compute(tiny_config(model__attention="conv+full"))["params"]


@pytest.mark.parametrize("name", VARIANTS)
def test_controls_are_counted_apart(name):
    """The shared parameters are as many for all; a table prints the others beside them."""
    values = dict(model__attention=f"conv+{name}", model__bidirectional=not VARIANTS[name].supports_causal)
    cost = compute(tiny_config(**values))
    assert cost["params"] == params_of_full_attention()
    learned = {"native_sparse", "linformer", "forgetting", "differential", "softmax_sink", "taylor", "hedgehog"}
    learned |= {"gated_linear", "state_space", "rwkv6", "delta", "gated_delta", "kimi_delta"}
    assert (cost["control_params"] > 0) == (name in learned)
