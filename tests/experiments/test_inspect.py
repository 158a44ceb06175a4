"""The main that looks inside a run: its tables, its picture, its refusals, and the page that explains them."""

import pathlib
import re
import sys

import numpy as np
import pytest

from experiments import cli, inspect, run
from experiments.inspection import pictures
from experiments.studies import archive
from tests.experiments.conftest import CONFIG

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "inspection.md").read_text()


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the main with arguments and gives (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["inspect", *map(str, arguments)])
        code = cli.execute(inspect.run, inspect.FLAGS)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def trained(tmp_path, monkeypatch, call):
    """The folder of a run of a tiny study that was trained."""
    (tmp_path / "tiny.py").write_text(CONFIG.replace('"tiny"', '"mine"'))
    monkeypatch.setattr(sys, "argv", ["run", "--config=tiny.py"])
    assert cli.execute(run.run, run.FLAGS) == 0
    (folder,) = (path for path in (tmp_path / "results" / "mine").iterdir() if path.is_dir())
    return folder


@pytest.mark.slow
def test_a_run_is_looked_into_and_the_page_shows_it_in_python(trained, call, capsys):
    code, out, err = call(trained, "--rows=5", "--row=4", "--output=maps.png")
    assert code == 0 and err == "" and "conv+full on mqar:length=16,num_pairs=2,vocab_size=19, seed 0: 5 rows" in out
    for word in ("previous token", "induction", "evidence", "layer 2, head 3", "nothing", "layer 1 ", "wrote maps.png"):
        assert word in out
    assert pathlib.Path("maps.png").read_bytes().startswith(b"\x89PNG")
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(script, {})
    assert re.fullmatch(r"24 scores; accuracy \S+ without a head, \S+ without the evidence\n", capsys.readouterr().out)
    archive.pack(trained.parent, trained.parent.parent / "packed")
    for path in (trained / "checkpoints").iterdir():
        path.unlink()
    code, out, err = call(trained)
    assert code == 2 and "has no checkpoint that fits its model" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "name the folder of a run"),
        (["nowhere"], "'nowhere' is no run folder: it has no config.json."),
        (["nowhere", "--output=maps.pdf"], "--output must end in .html, .png or .svg; got 'maps.pdf'."),
        (["nowhere", "--rows=3", "--row=3"], "--row must be one of the 3 rows, from 0; got 3."),
        (["nowhere", "--rwo=3"], "unknown flag '--rwo'; valid choices, nearest first: --row"),
    ],
)
def test_a_wrong_command_is_one_line(call, arguments, message):
    code, out, err = call(*arguments)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


@pytest.mark.parametrize("queries, keys, most", [(7, 7, 7), (23, 23, 5), (23, 11, 8), (3, 300, 256)])
def test_bins_keep_the_weight_of_a_query(queries, keys, most):
    weights = np.random.default_rng(0).random((queries, keys))
    weights /= weights.sum(1, keepdims=True)
    found = pictures.binned(weights, most)
    assert found.shape == (min(queries, most), min(keys, most))
    np.testing.assert_allclose(found.sum(1), 1)
    if max(queries, keys) <= most:
        np.testing.assert_array_equal(found, weights)
