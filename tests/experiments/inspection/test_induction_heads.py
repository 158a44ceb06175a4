"""On a trained model that is committed, scores name the two heads of induction, and each of them is needed."""

import math
import pathlib

import jax
import pytest

import experiments
from experiments.inspection import causes
from experiments.inspection.causes import MEAN, ZERO, Ablation
from experiments.inspection.head_scores import head_scores
from experiments.inspection.maps import look
from experiments.model.hooks import NONE, Site

FOLDER = pathlib.Path(__file__).parents[3] / "results" / "reference" / "induction_heads"
ROWS = 512


@pytest.fixture(scope="module")
def solved():
    """The committed model, its task, and rows that nobody has seen."""
    (run,) = experiments.load(FOLDER).runs
    assert run.checkpoints() == [run.result["steps"]] == [600]
    task = run.task()
    return run.model(), task, task.sample(jax.random.key(17), ROWS)


@pytest.mark.slow
def test_scores_name_one_previous_token_head_and_one_induction_head(solved):
    model, _, rows = solved
    scores = head_scores(look(model, rows).maps, rows)
    named = {
        name: [(score.site, score.head) for score in scores if score.name == name and score.value > 0.5]
        for name in ("previous token", "induction", "evidence", "same token", "first token")
    }
    assert named == {
        "previous token": [(Site(0), 0)],
        "induction": [(Site(1), 0)],
        "evidence": [(Site(1), 0)],
        "same token": [],
        "first token": [],
    }
    assert all(score.baseline < 0.2 for score in scores if score.name in named)


@pytest.mark.slow
@pytest.mark.parametrize("by", [ZERO, MEAN])
def test_without_either_head_accuracy_is_at_the_floor(solved, by):
    model, task, rows = solved
    assert causes.score(model, task, rows, NONE).accuracy > 0.98
    floor = max(task.floors().values())
    margin = 3 * math.sqrt(floor * (1 - floor) / ROWS)  # standard errors
    for site in (Site(0), Site(1)):
        assert causes.score(model, task, rows, Ablation(site, 0, by)).accuracy < floor + margin, site
