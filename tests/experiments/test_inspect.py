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

KEPT = "--config.train.keep_checkpoints=every"
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
def trained(tmp_path, monkeypatch, call, capsys):
    """The folder of a run of a tiny study that was trained."""
    (tmp_path / "tiny.py").write_text(CONFIG.replace('"tiny"', '"mine"'))
    monkeypatch.setattr(sys, "argv", ["run", "--config=tiny.py", "--workers=1"])
    assert cli.execute(run.run, run.FLAGS) == 0
    capsys.readouterr()
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
    assert re.fullmatch(r"27 scores; accuracy \S+ without a head, \S+ without the evidence\n", capsys.readouterr().out)
    archive.pack(trained.parent, trained.parent.parent / "packed")
    for path in (trained / "checkpoints").iterdir():
        path.unlink()
    code, out, err = call(trained)
    assert code == 2 and "has no checkpoint that fits its model" in err and err.count("\n") == 1


@pytest.fixture
def study(tmp_path, monkeypatch, call, capsys):
    """The folder of a tiny study of two models and two seeds, whose parameters along training are kept."""
    (tmp_path / "tiny.py").write_text(CONFIG)
    vary = "--vary=model.attention=conv+full|conv+conv"
    monkeypatch.setattr(sys, "argv", ["run", "--config=tiny.py", vary, "--seeds=2", KEPT, "--workers=1"])
    assert cli.execute(run.run, run.FLAGS) == 0
    capsys.readouterr()
    return tmp_path / "results" / "tiny"


@pytest.mark.slow
def test_a_row_of_a_study_is_looked_into_over_its_seeds_and_along_training(study, call):
    code, out, err = call(study, "--attention=full", "--rows=5", "--training=scores.svg")
    assert (code, err) == (0, "") and pathlib.Path("scores.svg").read_text().count("training step") >= 2
    first, _, heading, *lines = out.splitlines()
    assert first.startswith("conv+full on mqar:length=16,num_pairs=2,vocab_size=19, 2 seeds: 5 rows each; behind means")
    assert heading.split()[:3] == ["heads", "previous", "token"]
    assert [line.split("  ")[0] for line in lines[:2]] == ["layer 2, best head", "layer 2, mean of heads"]
    number = r"\d\.\d\d"
    assert re.search(rf"  {number} {number}-{number} \({number}\)  ", lines[0])
    without = {line[:7]: line.split()[-4:] for line in lines if line[:7] in ("nothing", "layer 1")}
    assert re.fullmatch(r"\d\.\d{3}-\d\.\d{3}", without["layer 1"][-1]) and len(without["nothing"]) == 3
    assert lines[-1] == "wrote scores.svg"
    code, out, err = call(study, "--where=model.attention=conv+conv", "--rows=5")
    assert (code, err) == (0, "") and "heads" not in out and "nothing" in out
    code, out, err = call(study, "--all", "--rows=5")
    heading, _, *rows = (line.strip("| ").split(" | ") for line in out.splitlines())
    assert (code, err) == (0, "") and {row[0] for row in rows} == {"`conv+full`", "`conv+conv`"}
    cells = {row[0]: dict(zip(heading, row, strict=True)) for row in rows}
    assert (
        cells["`conv+full`"]["accuracy"] == without["nothing"][1] and cells["`conv+conv`"]["induction, layer 2"] == "-"
    )
    assert cells["`conv+full`"]["without layer 1"] == without["layer 1"][0]
    folder = next(path for path in study.iterdir() if (path / "parameters").is_dir())
    code, out, err = call(folder, "--step=3", "--rows=5")
    assert (code, err) == (0, "") and ", step 3: 5 rows" in out
    refusals = {
        (study,): "choose one of 2 rows with --attention and --where, or --all: conv+",
        (study, "--all", "--training=a.png"): "leave out --all",
        (folder, "--all"): "--all is for a study; ",
        (study, "--attention=ful"): "--attention: unknown model 'ful'; valid choices, nearest first: full",
        (study, "--row=2"): "--row is for a run; ",
        (folder, "--attention=full"): "--attention is for a study; ",
        (folder, "--step=4"): "it keeps no parameters of step 4; 3 steps are kept, nearest first 3, 6, 0.",
    }
    for arguments, message in refusals.items():
        code, out, err = call(*arguments)
        assert code == 2 and out == "" and message in err and err.count("\n") == 1, arguments


@pytest.mark.slow
def test_a_picture_along_training_needs_parameters_along_training(trained, call):
    for folder in (trained, trained.parent):
        code, out, err = call(folder, "--training=scores.png", "--rows=5")
        assert code == 2 and out == "" and "train with --config.train.keep_checkpoints=every." in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "name the folder of a run"),
        (["nowhere", "--attention=full"], "there is no run folder 'nowhere'."),
        (["nowhere", "--training=maps.html"], "--training must end in .png or .svg; got 'maps.html'."),
        (["nowhere"], "there is no run folder 'nowhere'."),
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
