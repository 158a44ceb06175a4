import jax
import pytest

from experiments.analysis.memory import check, least_bytes
from experiments.model.transformer import make_model
from experiments.training.step import compile_program
from tests.experiments.tiny import tiny_run


def test_counts_parameters_and_streams():
    run = tiny_run()
    params = sum(leaf.size for leaf in jax.tree.leaves(make_model(run)[1]))
    assert least_bytes(run) == 4 * (3 * params + max(5 * 2, 8) * 14 * 12)
    assert least_bytes(tiny_run(eval__batch_size=100)) == 4 * (3 * params + 100 * 14 * 12)
    assert least_bytes(tiny_run(seed=3)) == least_bytes(run)


@pytest.mark.slow
def test_no_program_gets_by_with_less():
    for values in ({}, {"train__batch_size": 500}, {"model__model_dim": 240}, {"model__attention": "conv+linear+full"}):
        run = tiny_run(**values)
        assert compile_program(run).peak_bytes > least_bytes(run), values


def test_what_cannot_fit_is_refused_before_it_is_tried():
    runs = [tiny_run(), tiny_run(train__batch_size=2**20, model__model_dim=2**12 * 3)]
    check(runs[:1], least_bytes(runs[0]))
    with pytest.raises(ValueError, match=r"^model.attention=conv\+full needs at least 1.45e.03 GB .* there are 24 GB"):
        check(runs, 24 * 10**9)
