import numpy as np
import pytest

from experiments.reporting.figures import layout, learning_curves
from experiments.studies.results import read_study
from tests.experiments.fake_study import config_of, write_run
from tests.experiments.reporting.figures.gallery import CROWDED, STUDIES, colours, look_at, of_tasks, paths


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STUDIES if name not in CROWDED])
def test_every_seed_is_a_line_and_the_median_ends_in_the_mark_of_the_model(gallery, name):
    study = gallery.study(name)
    for axes, rows in zip(of_tasks(gallery.figure(name, "learning_curves")), study.by_task.values(), strict=True):
        for row in rows:
            curves = [tuple((m["step"], m["validation_accuracy"]) for m in lines) for lines in row.metrics]
            assert set(curves) <= paths(axes)
            end = max(curve[-1][0] for curve in curves), sum(curve[-1][1] for curve in curves) / 2
            assert tuple(layout.looks(study)[study.model(row)]) in look_at(axes, end)


@pytest.mark.slow
@pytest.mark.parametrize("name", CROWDED)
def test_in_strips_the_median_ends_in_the_mark_of_the_model_too(gallery, name):
    study, figure = gallery.study(name), gallery.figure(name, "learning_curves")
    for axes, model in zip(figure.axes[:: len(study.by_task)], study.models, strict=True):
        look = layout.looks(study)[model]
        assert set(colours(axes, 1)) - {"#8A929C"} == {look.colour}
        assert axes.lines[-1].get_marker() == look.marker, "a run that solves its task at once is a point"


def test_answers_that_are_numbers_are_right_within_a_tolerance(tmp_path):
    for task, lines_of_label in (("adding", 2), ("mqar", 1)):
        write_run(tmp_path / task, config_of("conv+full", task=task))
        figure = learning_curves.learning_curves(read_study(tmp_path / task))
        assert len(figure.axes[0].get_ylabel().splitlines()) == lines_of_label


def test_runs_without_metrics_are_left_out(tmp_path):
    (write_run(tmp_path / "study", config_of("conv+full")) / "metrics.jsonl").unlink()
    (axes,) = learning_curves.learning_curves(read_study(tmp_path / "study")).axes
    assert not axes.get_title() and len(axes.lines) == 1  # the floor


def test_a_long_curve_keeps_its_ends_and_its_extremes_and_few_points():
    steps = np.arange(1, 100_001)
    scores = np.where(steps == 54_321, 1.0, np.where(steps == 77_777, 0.0, 0.5 + 0.1 * np.sin(steps)))
    curve = list(zip(steps.tolist(), scores.tolist(), strict=True))
    thin = learning_curves.thinned(curve)
    assert len(thin) <= learning_curves._MOST_POINTS + 2 and set(thin) <= set(curve) and thin == sorted(thin)
    assert {curve[0], curve[-1], (54_321, 1.0), (77_777, 0.0)} <= set(thin)
    assert learning_curves.thinned(curve[:2000]) == curve[:2000]
