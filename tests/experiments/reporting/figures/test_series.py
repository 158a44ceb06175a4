"""Curves over the bins of a slice: seeds, means and ceilings."""

import math

import pytest

from experiments.reporting.figures import series
from experiments.studies.results import read_study
from tests.experiments.fake_study import config_of, write_run

DEPTH = {"values": [0, 1, 2, 3], "accuracy": [0.5, None, 1.0, 0.0], "count": [5, 0, 5, 5]}


def row_with(folder, *items):
    for seed, item in enumerate(items):
        write_run(folder / "study", config_of("conv+full", seed), slices={"depth": item} if item else {})
    (row,) = read_study(folder / "study").rows
    return row


def test_bins_without_targets_are_left_out_and_runs_without_the_slice(tmp_path):
    row = row_with(tmp_path, DEPTH, None, DEPTH | {"accuracy": [0.7, 0.2, 0.0, 0.0], "count": [5, 5, 5, 0]})
    curve = series.read_curve(row, "depth", log=False)
    assert curve.middles == [0, 1, 2, 3] and curve.edges == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert curve.means == pytest.approx([0.6, 0.2, 0.5, 0.0])
    assert len(curve.seeds) == 2 and math.isnan(curve.seeds[0][1]) and math.isnan(curve.seeds[1][3])
    assert curve.ceilings == []


def test_ceilings_are_means_of_the_stored_ones_and_end_at_the_last_edge(tmp_path):
    items = [DEPTH | {"ceiling": [1.0, None, 0.5, ceiling]} for ceiling in (0.25, 0.75)]
    curve = series.read_curve(row_with(tmp_path, *items), "depth", log=False)
    assert curve.ceilings == [1.0, 0.5, 0.5, 0.5] and curve.edges == [-0.5, 1.5, 2.5, 3.5]


def test_no_ceiling_is_drawn_in_a_bin_for_which_a_run_has_none(tmp_path):
    known = DEPTH | {"ceiling": [1.0, None, 0.5, None]}
    curve = series.read_curve(
        row_with(tmp_path, known, DEPTH | {"ceiling": [1.0, None, None, None]}), "depth", log=False
    )
    assert curve.ceilings[0] == 1.0 and all(map(math.isnan, curve.ceilings[1:]))


def test_powers_of_two_are_drawn_at_their_geometric_middle_and_zero_a_little_below_one(tmp_path):
    item = {"edges": [0, 1, 2, 8], "accuracy": [0.1, 0.2, 0.3], "count": [1, 1, 1], "ceiling": [1.0, 0.9, 0.8]}
    curve = series.read_curve(row_with(tmp_path, item), "depth", log=True)
    assert curve.middles == pytest.approx([0.7, 1.0, math.sqrt(2 * 7)])
    assert curve.edges == [0.7, 1, 2, 8] and curve.ceilings == [1.0, 0.9, 0.8, 0.8]
