"""A packed study says what its folders say, notices what they would, and goes on where they stood."""

import json
import shutil

import pytest

from experiments import archive as command
from experiments import cli
from experiments.config.run import Run
from experiments.reporting import tables
from experiments.studies import archive
from experiments.studies.results import read_study
from experiments.studies.run_folder import RunFolder, open_study
from experiments.studies.runner import run_study
from tests.experiments.fake_study import config_of, write_run
from tests.experiments.tiny import tiny_config


@pytest.fixture
def study(tmp_path):
    """Returns a study of six runs that have ended, one that has not, and one that failed."""
    folder = tmp_path / "study"
    for attention in ("conv+full", "conv+linear"):
        for seed in range(3):
            write_run(folder, config_of(attention, seed), test_accuracy=0.5 + 0.1 * seed)
    write_run(folder, config_of("conv+full", 3), status="failed", error="boom")
    (write_run(folder, config_of("conv+full", 4)) / "result.json").unlink()
    return folder


def test_a_packed_study_reads_as_its_folders_do(study, tmp_path):
    assert archive.pack(study, tmp_path / "packed" / "study") == 6
    packed, whole = read_study(tmp_path / "packed" / "study"), read_study(study)
    assert [row.results for row in packed.rows] == [row.results for row in whole.rows]
    assert [row.metrics for row in packed.rows] == [row.metrics for row in whole.rows] and not packed.problems
    assert (packed.failed, packed.unfinished) == (0, 0)
    assert tables.render(packed, "csv") == tables.render(whole, "csv")


def test_what_was_unpacked_is_what_was_packed(study, tmp_path):
    archive.pack(study, tmp_path / "packed")
    assert archive.unpack(tmp_path / "packed", tmp_path / "again") == 6
    assert archive.unpack(tmp_path / "packed", tmp_path / "again") == 0, "what is there stays"
    ended = [run for run in open_study(study) if run.ended()]
    for run in ended:
        other = RunFolder(tmp_path / "again" / run.path.name)
        assert [other.read(name) for name in ("config.json", "manifest.json")] == [
            run.read(name) for name in ("config.json", "manifest.json")
        ]
        assert (other.path / "metrics.jsonl").read_bytes() == (run.path / "metrics.jsonl").read_bytes()
        result = other.result() or {}
        assert "metrics_sha256" in result and other.check_metrics(result) is None
        assert {**result, **(run.result() or {})} == result
    archive.pack(tmp_path / "again", tmp_path / "twice")
    assert (tmp_path / "twice" / "runs.jsonl").read_text() == (tmp_path / "packed" / "runs.jsonl").read_text()


@pytest.mark.slow
def test_an_unpacked_study_goes_on_where_it_was(tmp_path, capsys):
    runs = [Run.read(tiny_config(name="kept", seed=seed)) for seed in (0, 1)]
    assert run_study(runs[:1], tmp_path / "results", "python -m experiments.run --results=results") == 0
    archive.pack(tmp_path / "results" / "kept", tmp_path / "packed" / "kept")
    archive.unpack(tmp_path / "packed" / "kept", tmp_path / "other" / "kept")
    capsys.readouterr()
    assert run_study(runs, tmp_path / "other", "python -m experiments.run") == 0
    assert "1 of 2 runs have ended before" in capsys.readouterr().out
    assert len(read_study(tmp_path / "other" / "kept").rows[0].results) == 2


def test_folders_beside_an_archive_count_once(study, tmp_path):
    archive.pack(study, study)
    whole = read_study(study)
    assert [len(row.results) for row in whole.rows] == [3, 3] and not whole.problems
    shutil.rmtree(next(run.path for run in open_study(study) if run.ended()))
    assert [len(row.results) for row in read_study(study).rows] == [3, 3]


@pytest.mark.parametrize("damage", ["flip", "torn", "list", "number", "unsealed"])
def test_a_damaged_line_is_named_and_the_others_are_read(study, tmp_path, damage):
    archive.pack(study, tmp_path / "packed")
    path = tmp_path / "packed" / "runs.jsonl"
    lines = path.read_text().splitlines()
    unsealed = json.dumps({key: value for key, value in json.loads(lines[2]).items() if key != "sha256"})
    lines[2] = {
        "flip": lines[2].replace("0.5", "0.9", 1).replace("0.6", "0.9", 1).replace("0.7", "0.9", 1),
        "torn": lines[2][:-20],
        "list": "[1]",
        "number": "3",
        "unsealed": unsealed,
    }[damage]
    path.write_text("\n".join(lines) + "\n")
    read = read_study(tmp_path / "packed")
    assert sum(len(row.results) for row in read.rows) == 5
    assert any("line is damaged" in problem and "in line 3 of runs.jsonl" in problem for problem in read.problems)
    assert len([problem for problem in read.problems if "line is damaged" in problem]) == 1
    with pytest.raises(ValueError, match="5 unpacked, 1 damaged: run in line 3 of runs.jsonl: its line is damaged"):
        archive.unpack(tmp_path / "packed", tmp_path / "again")
    assert sum(run.ended() for run in open_study(tmp_path / "again")) == 5, "one bad line keeps no other out"


def test_what_is_left_out_of_an_archive_is_said(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["archive", str(study), f"--output={tmp_path / 'packed'}"])
    assert cli.execute(command.run, command.FLAGS) == 0
    assert capsys.readouterr().out.endswith("runs.jsonl; 2 that have not ended are left out.\n")


def test_an_archive_with_other_runs_is_not_replaced(study, tmp_path):
    archive.pack(study, tmp_path / "packed")
    before = (tmp_path / "packed" / "runs.jsonl").read_bytes()
    write_run(tmp_path / "other", config_of("conv+full", 7))
    with pytest.raises(ValueError, match="has runs that .*other' has not: 6, such as .*; pack into another folder"):
        archive.pack(tmp_path / "other", tmp_path / "packed")
    assert (tmp_path / "packed" / "runs.jsonl").read_bytes() == before
    write_run(study, config_of("conv+full", 7))
    assert archive.pack(study, tmp_path / "packed") == 7, "what has grown replaces what it was"


def test_a_damaged_run_is_not_packed(study, tmp_path):
    run = next(run for run in open_study(study) if run.ended())
    result = run.result()
    run.finish(result | {"test_accuracy": 0.25})
    (run.path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="metrics.jsonl is damaged"):
        archive.pack(study, tmp_path / "packed")
    (run.path / "result.json").write_text("{")
    with pytest.raises(ValueError, match="result.json is damaged"):
        archive.pack(study, tmp_path / "packed")


def test_where_results_were_kept_is_not_packed(study, tmp_path):
    run = next(run for run in open_study(study) if run.ended())
    command = "python -m experiments.run --config=configs/mqar.py {} --vary='model.attention=full|linear'"
    for flag in ("--results=/a/b", "--results /a/b", ""):
        run.write("manifest.json", (run.read("manifest.json") or {}) | {"command": command.format(flag)})
        archive.pack(study, tmp_path / "packed")
        (packed,) = [other for other in archive.open_archive(tmp_path / "packed") if other.path.name == run.path.name]
        kept = (packed.read("manifest.json") or {})["command"]
        assert kept == "python -m experiments.run --config=configs/mqar.py '--vary=model.attention=full|linear'"


def test_without_runs_there_is_nothing_to_pack(tmp_path):
    with pytest.raises(ValueError, match="no run in .* has ended"):
        archive.pack(tmp_path, tmp_path / "packed")
    with pytest.raises(ValueError, match=r"there is no runs.jsonl"):
        archive.unpack(tmp_path, tmp_path / "again")
