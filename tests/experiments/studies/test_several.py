"""Several studies read as one: every run counts once, and each study chooses by itself."""

import pytest

from experiments.studies.results import read_study
from tests.experiments.fake_study import KINDS, config_of, write_run, write_study

SHORT = ["conv+full", "conv+linear"]


def chosen_by(folder, rates, best, seeds=(0,)):
    """Writes runs of full attention at `rates`, of which the study chooses `best`."""
    for rate in rates:
        for seed in seeds:
            config = config_of("conv+full", seed, learning_rate=rate)
            config["study"]["select"] = ("train.learning_rate",)
            write_run(folder, config, validation_accuracy=0.9 if rate == best else 0.5, test_accuracy=rate * 100)
    return folder


def summary(*paths):
    return [(row.attention, row.varied["study"], row.seeds) for row in read_study(*paths).rows]


def test_rows_of_all_studies_stand_in_one_table_with_their_study(tmp_path):
    one = write_study(tmp_path / "one", SHORT, 2, ["mqar"])
    two = write_study(tmp_path / "two", SHORT, 3, ["induction"])
    study = read_study(one, two)
    assert study.varied == ("task", "study") and study.title == "Studies one, two"
    assert {(row.config["task"], row.varied["study"], row.ended) for row in study.rows} == {
        ("mqar", "one", 2),
        ("induction", "two", 3),
    }
    assert set(study.models) == set(SHORT), "of one study a task, so that a model is the same in all of them"


def test_a_run_of_two_studies_counts_once_and_its_cell_has_the_seeds_of_both(tmp_path):
    one = write_study(tmp_path / "one", SHORT, 2)
    two = write_study(tmp_path / "two", SHORT[:1], 3)
    assert summary(one, two) == [("conv+full", "one, two", (0, 1, 2)), ("conv+linear", "one", (0, 1))]
    assert [seeds for _, _, seeds in summary(one, two)] == [seeds for _, _, seeds in summary(two, one)]


def test_the_same_folder_twice_is_one_study(tmp_path):
    one = write_study(tmp_path / "one", SHORT, 2)
    (tmp_path / "link").symlink_to(one)
    for other in (one, tmp_path / "." / "one", tmp_path / "link"):
        assert read_study(one, other).title == "Study one" and read_study(one, other).varied == ()


def test_of_a_run_that_differs_the_first_study_counts_and_that_is_said(tmp_path):
    for name, score in (("one", 0.25), ("two", 0.75)):
        write_run(tmp_path / name, config_of("conv+full"), test_accuracy=score)
        write_run(tmp_path / name, config_of("conv+linear"), test_accuracy=0.5)
    for order, score in (("one two", 0.25), ("two one", 0.75)):
        study = read_study(*(tmp_path / name for name in order.split()))
        scores = {row.attention: row.accuracies for row in study.rows}
        assert scores == {"conv+full": (score,), "conv+linear": (0.5,)}
        assert study.problems == ("1 run differs between two studies that have it; the study named first counts.",)


def test_a_run_that_has_ended_in_one_study_is_not_unfinished_in_another(tmp_path):
    write_run(tmp_path / "one", config_of("conv+full"))
    (write_run(tmp_path / "two", config_of("conv+full")) / "result.json").unlink()
    write_run(tmp_path / "two", config_of("conv+linear"))
    for order in ("one two", "two one"):
        study = read_study(*(tmp_path / name for name in order.split()))
        assert study.unfinished == 0 and [row.ended for row in study.rows] == [1, 1]


def test_each_study_chooses_by_itself(tmp_path):
    one = chosen_by(tmp_path / "one", (0.001, 0.003), best=0.001)
    two = chosen_by(tmp_path / "two", (0.005, 0.007), best=0.007)
    rows = read_study(one, two).rows
    found = {row.varied["study"]: (row.choices[0].value, [rate for rate, _ in row.choices[0].curve]) for row in rows}
    assert found == {"one": (0.001, [0.001, 0.003]), "two": (0.007, [0.005, 0.007])}


def test_what_two_studies_choose_is_one_row_with_all_that_was_tried(tmp_path):
    one = chosen_by(tmp_path / "one", (0.001, 0.003), best=0.003, seeds=(0, 1))
    two = chosen_by(tmp_path / "two", (0.003, 0.007), best=0.003, seeds=(1, 2))
    (row,) = read_study(one, two).rows
    assert (row.varied["study"], row.seeds) == ("one, two", (0, 1, 2))
    assert [rate for rate, _ in row.choices[0].curve] == [0.001, 0.003, 0.007]


def test_studies_of_one_name_are_told_apart_by_their_paths(tmp_path):
    for place, task in (("here", "mqar"), ("there", "induction")):
        write_study(tmp_path / place / "toy", SHORT[:1], 1, [task])
    paths = [tmp_path / place / "toy" for place in ("here", "there")]
    assert {row.varied["study"] for row in read_study(*paths).rows} == set(map(str, paths))


def test_best_first_within_a_task_whatever_the_study(tmp_path):
    kinds = list(KINDS)
    paths = [write_study(tmp_path / name, part, 1) for name, part in (("one", kinds[::2]), ("two", kinds[1::2]))]
    means = [row.accuracy.mean for row in read_study(*paths).rows]
    assert means == sorted(means, reverse=True) and len(means) == len(kinds)


def test_problems_name_their_study_and_rows_that_ran_elsewhere_are_known(tmp_path):
    one = write_study(tmp_path / "one", SHORT[:1], 1)
    write_run(tmp_path / "two", config_of("conv+linear"), environment={"device": "Another CPU"})
    (tmp_path / "two" / "mine").mkdir()
    study = read_study(one, tmp_path / "two")
    assert study.problems == ("two: Folder mine: there is no run in it.",) and len(study.mixed_setups) == 2


def test_each_folder_must_be_a_study(tmp_path):
    one = write_study(tmp_path / "one", SHORT[:1], 1)
    with pytest.raises(ValueError, match=r"no folder .*nothing.*studies near: .*one"):
        read_study(one, tmp_path / "nothing")
