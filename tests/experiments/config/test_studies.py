"""The studies that come with the code: each loads, expands and names runs that can be built."""

import functools
import pathlib

import jax
import pytest
from flax import nnx

from attention_variants import specs
from attention_variants.interface import HeadSizes
from attention_variants.registry import VARIANTS
from configs import catalogue, catalogue_encoder
from experiments.components.registry import MIXERS
from experiments.config.files import load_config
from experiments.config.run import Run
from experiments.studies.grid import expand
from tests.experiments.tiny import tiny_cost

CONFIGS = sorted(
    path for path in (pathlib.Path(__file__).parents[3] / "configs").glob("*.py") if path.stem != "__init__"
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_study_expands_to_runs(path):
    runs = [Run.read(config) for config in expand(load_config(str(path)))]
    assert len({run.digests for run in runs}) == len(runs) >= 1


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
    return tiny_cost(model__attention="conv+full")["params"]


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_controls_are_counted_apart(name):
    """The shared parameters are as many for all; a table prints the others beside them."""
    values = dict(model__attention=f"conv+{name}", model__bidirectional=not VARIANTS[name].supports_causal)
    cost = tiny_cost(**values)
    assert cost["params"] == params_of_full_attention()
    variant = VARIANTS[name]()
    module = jax.eval_shape(
        lambda: nnx.state(variant.make_controls(64, HeadSizes(4, 4, 16, 16), rngs=nnx.Rngs(0)), nnx.Param)
    )
    assert (cost["control_params"] > 0) == (len(jax.tree.leaves(module)) > 0)
