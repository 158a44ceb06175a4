"""Kept results brought up to date equal those that the code of today writes."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.config.run import Run
from experiments.studies import archive
from experiments.studies.run_folder import RunFolder
from experiments.studies.runner import run_folder, run_study
from tests.experiments.tiny import tiny_config
from tests.page_makers import load


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns a study of one run with tests on other rows, and its result."""
    tests = {"eval__test_lengths": "18,20", "eval__shifted": "copying:length=10,vocab_size=22"}
    run = Run.read(tiny_config(name="kept", **tests))
    results = tmp_path_factory.mktemp("results")
    assert run_study([run], results, "a command") == 0
    return results / "kept", run_folder(results, run).read("result.json")


def as_once(result: dict[str, Any]) -> dict[str, Any]:
    """Returns a result in the form of earlier versions, with what they derived from its config gone or out of date."""
    old = copy.deepcopy(result)
    for name in ("cell", "task", "model"):
        del old[name]
    for item in old["slices"].values():
        del item["ceiling"]
    tests = old.pop("tests")
    for kind, name in (("length", "lengths"), ("shifted", "shifted")):
        found = [test for test in tests if test["kind"] == kind]
        old[name] = {test["value"]: {"accuracy": test["accuracy"], "loss": test["loss"]} for test in found}
    train = old["config"]["train"]
    del train["schedule"], train["optimizer"], old["config"]["model"]["norm"]
    train |= {"warmup_steps": 2, "weight_decay": 0.1}
    old["compute"]["cache_bytes"] = 0
    old["environment"]["flags"]["JAX_COMPILATION_CACHE_DIR"] = "(path)"
    return old | {"run_id": "ofonce", "floor": 0.0, "ceiling": 0.0}


def without_whole_rows(result: dict[str, Any]) -> dict[str, Any]:
    """Returns a result without what earlier versions did not count on other rows."""
    return result | {"tests": [{k: v for k, v in test.items() if k != "row_accuracy"} for test in result["tests"]]}


@pytest.mark.slow
def test_an_earlier_result_becomes_one_of_today(trained):
    _, result = trained
    old = as_once(result)
    assert len(result["tests"]) == 3 and result["slices"] and old["config"] != result["config"]
    refreshed = load("refresh_results").refreshed
    assert json.loads(json.dumps(refreshed(old))) == without_whole_rows(result) != result
    assert json.loads(json.dumps(refreshed(result))) == result


@pytest.mark.slow
def test_a_study_is_renamed_and_written_again(trained, monkeypatch, capsys):
    study, result = trained
    (folder,) = [path.parent for path in Path(study).glob("*/result.json")]
    old = as_once(result)
    once = folder.rename(study / "ofonce")
    for name, held in (("result", old), ("config", old["config"])):
        (once / f"{name}.json").write_text(json.dumps(held))  # without digests
    page = load("refresh_results")
    monkeypatch.setattr("sys.argv", ["refresh_results.py", str(study)])
    assert page.main() == 0 and "1 runs" in capsys.readouterr().out
    assert not once.exists() and RunFolder(folder).read("result.json") == without_whole_rows(result)
    assert RunFolder(folder).read("config.json") == result["config"]
    assert "conv+full" in (study / "table.md").read_text() and (study / "table.csv").exists()
    assert not list(study.glob("*.png"))  # only pictures that were there are drawn again


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"task": "mqar:length=64,vocab_size=16"}, "vocab_size"),
        ({"model": {"position": "t5"}}, "run ofonce may predate the revision of t5."),
    ],
)
@pytest.mark.slow
def test_what_today_would_not_train_alike_is_left_alone(trained, tmp_path, monkeypatch, capsys, changes, why):
    _, result = trained
    config = copy.deepcopy(result["config"])
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    held = json.dumps(result | {"config": config, "run_id": "ofonce"})
    file = tmp_path / "old" / "ofonce" / "result.json"
    file.parent.mkdir(parents=True)
    file.write_text(held)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("sys.argv", ["refresh_results.py", str(tmp_path / "old"), str(tmp_path / "empty")])
    assert load("refresh_results").main() == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "left alone" in first and why in first and second.endswith("empty: 0 runs")
    assert file.read_text() == held and [path.name for path in tmp_path.rglob("*.md")] == []


@pytest.mark.slow
def test_a_refused_run_in_the_archive_leaves_the_folders_alone(trained, tmp_path, monkeypatch, capsys):
    study, result = trained
    bad = result["config"] | {"task": "mqar:length=64,vocab_size=16"}
    for name, held in (("good", as_once(result)), ("bad", result | {"config": bad})):
        shutil.copytree(study, tmp_path / name)
        (folder,) = (path.parent for path in (tmp_path / name).glob("*/result.json"))
        RunFolder(folder).write("result.json", held)
    archive.pack(tmp_path / "bad", tmp_path / "good")
    before = {path: path.read_bytes() for path in (tmp_path / "good").rglob("*") if path.is_file()}
    monkeypatch.setattr("sys.argv", ["refresh_results.py", str(tmp_path / "good")])
    assert load("refresh_results").main() == 1 and "vocab_size" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in (tmp_path / "good").rglob("*") if path.is_file()}
