"""How far attention moved: total variation of the shares of weight, of the same heads and rows, before and after."""

import pathlib
import sys

import numpy as np
import pytest

from experiments import cli, inspect
from experiments.inspection import moved, tables
from experiments.inspection.maps import Map
from experiments.inspection.moved import ALL, BEFORE, OWN, READ_OUT, Moved
from experiments.model.hooks import Site
from experiments.studies import runner, search
from experiments.tasks.base import Batch
from tests.experiments.tiny import tiny_run

QUERIES, KEYS = 5, 7
FIELDS = dict(name="tiny", pretrain__task="mqar:length=12,num_pairs=2,vocab_size=22", train__stop_when_solved=False)


def map_of(weights: np.ndarray) -> Map:
    values = np.zeros((len(weights), KEYS, weights.shape[1], 2))
    return Map(Site(0), weights, values, np.ones((QUERIES, KEYS), bool), 1, True)


def one_hot(keys: np.ndarray) -> np.ndarray:
    return np.eye(KEYS)[keys]


def rows_read_at(positions: list[list[int]], weights: list[list[float]]) -> Batch:
    places = np.array(positions)
    return Batch(places, places, places, np.array(weights), places[..., None], {})


def distances(before: np.ndarray, after: np.ndarray, rows: Batch) -> dict[str, float]:
    found = moved.moved([map_of(before)], [map_of(after)], rows, OWN)
    assert all((each.site, each.rows) == (Site(0), OWN) for each in found)
    return {each.queries: each.distance for each in found}


def test_it_is_half_the_absolute_difference_of_shares():
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 3, 2, QUERIES, KEYS))  # signed, of any sum: shares are of their sizes
    p, q = (np.abs(w) / np.abs(w).sum(-1, keepdims=True) for w in (before, after))
    rows = rows_read_at([[1, 4, 0], [2, 3, 0], [0, 1, 2]], [[1, 1, 0], [1, 1, 0], [1, 1, 1]])
    found = distances(before, after, rows)
    each = np.maximum(p - q, 0).sum(-1)  # the other definition of total variation
    assert found[ALL] == pytest.approx(each.mean())
    read = [each[0, :, [1, 4]], each[1, :, [2, 3]], each[2, :, [0, 1, 2]]]
    assert found[READ_OUT] == pytest.approx(np.concatenate([part.ravel() for part in read]).mean())
    assert distances(before, 3 * before, rows) == pytest.approx({READ_OUT: 0, ALL: 0}, abs=1e-9)


def test_its_ends_are_0_and_1_and_a_query_that_weighs_nothing_does_not_count():
    here, there = (one_hot(np.full((1, 1, QUERIES), key)) for key in (2, 5))
    rows = rows_read_at([[3]], [[1]])
    assert distances(here, here, rows) == {READ_OUT: 0, ALL: 0}
    assert distances(here, there, rows) == {READ_OUT: 1, ALL: 1}
    only_read = here.copy()
    only_read[0, 0, 3] = there[0, 0, 3]
    assert distances(here, only_read, rows) == {READ_OUT: 1, ALL: pytest.approx(1 / QUERIES)}
    silent = there.copy()
    silent[0, 0, 3] = 0
    found = distances(here, silent, rows)
    assert np.isnan(found[READ_OUT]) and found[ALL] == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A study of two runs, each with its pretraining."""
    results = tmp_path_factory.mktemp("results")
    runs = [tiny_run(**FIELDS, seed=seed) for seed in (0, 1)]
    assert search.train(runs, results, lambda stage: runner.run_study(stage, results, "python -m experiments.run")) == 0
    return results / "tiny"


@pytest.fixture
def call(monkeypatch, capsys):
    """Returns a function that runs the main with arguments and gives (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["inspect", *map(str, arguments)])
        return cli.execute(inspect.run, inspect.FLAGS), *capsys.readouterr()

    return call


@pytest.mark.slow
def test_the_command_compares_runs_with_their_pretraining(folder, call):
    runs = [tiny_run(**FIELDS, seed=seed) for seed in (0, 1)]
    found = [moved.moved_in_run(folder / run.digests.run, 6) for run in runs]
    assert [(each.rows, each.queries) for each in found[0]] == [
        (name, queries) for name in (OWN, BEFORE) for queries in (READ_OUT, ALL)
    ]
    assert all(0 < each.distance < 1 for run in found for each in run)
    code, out, err = call(folder, "--moved", "--rows=6")
    assert (code, err) == (0, "") and out.rstrip() == tables.moved_text({"conv+full": found})
    code, out, _ = call(folder / runs[1].digests.run, "--moved", "--rows=6")
    heading, line = out.splitlines()
    assert code == 0 and "pretrain.task: read out" in heading and line.startswith("layer 2")
    assert line.split()[2:] == [f"{each.distance:.3f}" for each in found[1]]
    first = runs[0].pretraining.digests.run
    for arguments, message in (
        ((folder / first, "--moved"), f"run {first} began anew; --moved needs one with pretrain.task."),
        ((folder, "--moved", "--where=task=mqar:length=12*"), "has a pretraining; --moved needs pretrain.task."),
        ((folder, "--moved", "--all"), "--moved compares a run with its pretraining; leave out --all."),
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_a_table_has_means_over_runs_and_a_dash_where_no_query_counts():
    layers = [
        [Moved(Site(layer), OWN, ALL, value) for layer, value in enumerate(run)]
        for run in ((0.2, np.nan), (0.4, np.nan))
    ]
    heading, first, second = tables.moved_text({"full": layers}).splitlines()
    assert "task: all queries" in heading
    assert first.split() == ["full,", "layer", "1", "0.300", "0.200-0.400"] and second.split()[-1] == "-"
