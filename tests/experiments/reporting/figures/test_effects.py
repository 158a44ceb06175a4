"""Paired differences: from full attention or else the best, each with its interval, filled where it is told from 0."""

import pytest
from matplotlib.colors import to_hex

from experiments.reporting.figures import effects
from experiments.studies import paired
from experiments.studies.results import read_study
from tests.experiments.fake_study import KINDS, config_of, write_run, write_study

SHORT = ["conv+full", "conv+linear", "conv+strided_sparse:stride=8"]


@pytest.mark.parametrize(
    ("kinds", "reference"),
    [
        (list(KINDS), "conv+full"),
        (["conv+linear", "full"], "full"),
        (list(KINDS)[1:], "conv+sliding_window:window_size=16+linear"),  # the best
    ],
)
def test_the_reference_is_full_attention_or_else_the_best(tmp_path, kinds, reference):
    assert effects.reference_of(read_study(write_study(tmp_path / "study", kinds, 1))) == reference


def test_full_attention_is_the_reference_where_another_is_better(tmp_path):
    for attention, score in (("conv+full", 0.5), ("conv+linear", 0.75)):
        write_run(tmp_path / "study", config_of(attention), test_accuracy=score)
    study = read_study(tmp_path / "study")
    assert study.models[0] == "conv+linear" and effects.reference_of(study) == "conv+full"


def strips(study):
    """Returns {(task, model): axes}."""
    axes = iter(effects.paired_differences(study).axes)
    tasks = list(study.by_task)
    return {(task, model): next(axes) for model in study.models for task in tasks}


def test_each_strip_has_the_difference_of_its_row_with_its_interval(tmp_path):
    tasks = ["induction", "mqar"]
    study = read_study(write_study(tmp_path / "study", SHORT, 5, tasks))
    for (task, model), axes in strips(study).items():
        rows = {study.model(row): row for row in study.by_task[task]}
        texts = [text.get_text() for text in axes.texts]
        if model == "conv+full":
            assert "ref." in texts and len(axes.lines) == 1
            continue
        others = [row for row in rows.values() if study.model(row) != "conv+full"]
        all_of_task = dict(zip(map(id, others), paired.differences(others, rows["conv+full"]), strict=True))
        (mean, low, high, _), told = all_of_task[id(rows[model])].estimate, all_of_task[id(rows[model])].separates
        zero, ends, mark = axes.lines
        assert set(zero.get_xdata()) == {0} and list(ends.get_xdata()) == [low, high]
        assert list(mark.get_xdata()) == [mean] and f"{mean:+.2f}" in texts
        assert (to_hex(mark.get_markerfacecolor()) != "#ffffff") == told is True


def test_what_is_not_told_apart_is_hollow_and_a_difference_of_nothing_is_written_so(tmp_path):
    for seed in range(2):
        for attention in SHORT[:2]:
            write_run(tmp_path / "study", config_of(attention, seed), test_accuracy=0.5 + seed / 10)
    study = read_study(tmp_path / "study")
    (axes,) = [axes for (_, model), axes in strips(study).items() if model == "conv+linear"]
    assert to_hex(axes.lines[-1].get_markerfacecolor()) == "#ffffff"
    assert "0.00" in [text.get_text() for text in axes.texts]


def test_without_a_second_model_a_common_seed_or_a_score_in_pairs_there_is_no_picture(tmp_path):
    one = read_study(write_study(tmp_path / "one", SHORT[:1], 2))
    for seed, attention in enumerate(SHORT[:2]):
        write_run(tmp_path / "apart", config_of(attention, seed))
    two = read_study(write_study(tmp_path / "two", SHORT[:2], 2))
    rates = two.by_metric(two.metrics["solve_rate"])
    assert [effects.paired_differences(study) for study in (one, read_study(tmp_path / "apart"), rates)] == [None] * 3


def test_differences_of_a_loss_say_which_is_better(tmp_path):
    study = read_study(write_study(tmp_path / "study", SHORT[:2], 2))
    figure = effects.paired_differences(study.by_metric(study.metrics["loss"]))
    assert figure.get_supxlabel() == "test loss minus that of conv+full (lower is better)"
