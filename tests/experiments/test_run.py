"""The main command: what it trains and repeats, and what it tells. Training is mostly replaced by a stand-in."""

from collections import Counter
from typing import Any

import pytest

from attention_variants import specs
from attention_variants.engines import fused_softmax
from attention_variants.variants.sliding_window import SlidingWindowAttention
from experiments.analysis import compute
from experiments.config import identity
from experiments.config.files import load_config
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.reporting.figures import sizes
from experiments.studies import forecast, run_folder, runner
from experiments.tasks.recall.mqar import MQAR
from experiments.training import other_rows
from tests.experiments.processes import hold_elsewhere
from tests.experiments.tiny import RESULT


def test_ended_runs_are_not_repeated_and_overrides_reach_training(command, trained):
    arguments = ("--vary=model.attention=full|conv+full", "--seeds=2", "--config.train.learning_rate", "1e-2")
    code, out, _ = command(*arguments)
    assert code == 0 and "Report: " in out and "report.html" in out and "Study tiny" in out
    assert [(each.model.attention, each.seed) for each in trained] == [
        ("full", 0),
        ("conv+full", 0),
        ("full", 1),
        ("conv+full", 1),
    ]
    assert {each.train.learning_rate for each in trained} == {0.01}
    code, out, _ = command(*arguments)
    assert code == 0 and len(trained) == 4 and "4 of 4 runs have ended before and are not repeated" in out
    command(*arguments[:1], "--seeds=3", *arguments[2:])
    assert len(trained) == 6


def test_a_failed_run_is_recorded_the_study_goes_on_and_it_is_tried_again(command, trained, tmp_path):
    def act(run):
        if run.model.attention == "full":
            raise ZeroDivisionError("planted\nbug")
        return RESULT

    trained.act = act
    code, out, _ = command("--vary=model.attention=full|conv+full")
    assert code == 1 and len(trained) == 2 and "failed: ZeroDivisionError: planted bug" in out
    failed = [folder for folder in run_folder.open_study(tmp_path / "results" / "tiny") if not folder.ended()]
    assert [folder.result()["error"] for folder in failed] == ["ZeroDivisionError: planted bug"]
    error = failed[0].path / "error.txt"
    assert "Traceback" in error.read_text()
    trained.act = None
    code, out, _ = command("--vary=model.attention=full|conv+full")
    assert code == 0 and len(trained) == 3 and not error.exists()


@pytest.mark.parametrize("moment", ["before", "while"])
def test_what_a_process_that_died_at_the_end_of_a_run_left_of_its_lease_goes(command, trained, tmp_path, moment):
    """Before a command, or while it waits for that process."""

    def leave(run):
        (tmp_path / "results" / "tiny" / run.digests.run / ".beat-0123").touch()
        return RESULT

    trained.act = leave if moment == "while" else None
    command()
    if moment == "before":
        leave(trained[0])
        command()
    assert len(trained) == 1 and not list((tmp_path / "results").rglob(".*"))


def test_a_diverged_run_is_told_with_its_step_and_not_repeated(command, trained):
    trained.act = lambda run: RESULT | {"status": "diverged", "diverged_at": 5}
    code, out, _ = command()
    assert code == 0 and "diverged: NaN or infinity at step 5" in out and "1 run diverged" in out
    command()
    assert len(trained) == 1


def test_all_runs_failing_is_exit_code_1_without_a_table(command, trained):
    def act(run):
        raise RuntimeError("no luck")

    trained.act = act
    code, out, err = command()
    assert code == 1 and "no luck" in out and "Study" not in out and err == ""


@pytest.mark.parametrize("status", ["done", "failed", "died"])
def test_a_run_in_the_hands_of_another_process_is_waited_for(command, trained, tmp_path, monkeypatch, status):
    """It is trained here where that process has gone, and only there."""
    monkeypatch.setattr(runner, "_LOOKS_EVERY", 0.02)
    folder = runner.run_folder(tmp_path / "results", Run.read(load_config(str(tmp_path / "tiny.py"))))
    end = hold_elsewhere(folder, status)
    trained.act = lambda run: end.set() or RESULT
    code, out, _ = command("--vary=model.attention=conv+full|full")
    assert code == (status == "failed") and len(trained) == 1 + (status == "died")
    assert "Waiting for the run that other processes are working on." in out


def test_the_run_folder_holds_what_the_design_says(command, trained, tmp_path):
    command()
    (folder,) = run_folder.open_study(tmp_path / "results" / "tiny")
    result = folder.result()
    digests = Run.read(Config.from_nested(result["config"])).digests
    assert (result["run_id"], result["cell"]) == digests and folder.path.name == digests.run
    own = {"run_id", "cell", "version", "config", "environment", "metrics_sha256"}
    assert RESULT.keys() | own == result.keys()
    assert folder.read("config.json") == result["config"]
    assert folder.read("manifest.json")["command"].startswith("python -m experiments.run --config=")
    assert folder.read("manifest.json")["environment"] == result["environment"]
    assert [line["step"] for line in folder.metrics()] == [3]


def test_dry_run_prints_every_cell_and_trains_nothing(command, trained, tmp_path):
    code, out, _ = command("--dry_run", "--vary=train.steps=5|10", "--seeds=3")
    assert code == 0 and not trained and not (tmp_path / "results").exists()
    assert out.count(" 0-2 ") == 2 and "6 runs" in out and "conv+full" in out and "train.steps=10" in out


def test_selections_add_up(command, trained, tmp_path):
    vary = "--vary=train.learning_rate=0.1|0.2", "--vary=model.mlp_dim=5|7"
    for number, select in enumerate(
        [
            ["--select=train.learning_rate", "--select=model.mlp_dim"],
            ["--select=train.learning_rate, model.mlp_dim"],
            ["--config.study.select=('train.learning_rate', 'model.mlp_dim')"],
        ]
    ):
        assert command(*vary, *select, f"--config.name=s{number}")[0] == 0
        assert {run.config.study.select for run in trained} == {("train.learning_rate", "model.mlp_dim")}
        trained.clear()
    assert command(*vary, "--config.study.select=model.mlp_dim", "--select=", "--config.name=none")[0] == 0
    assert {run.config.study.select for run in trained} == {()}


def test_a_later_command_may_select_among_runs_that_have_ended(command, trained, tmp_path):
    vary = "--vary=train.learning_rate=0.1|0.2"
    _, before, _ = command(vary)
    code, after, err = command(vary, "--select=train.learning_rate")
    assert code == 0 and err == "" and len(trained) == 2
    assert "Chosen learning rate: by best mean validation" in after and "Chosen" not in before
    assert all(
        run.read("config.json")["study"]["select"] for run in run_folder.open_study(tmp_path / "results" / "tiny")
    )


@pytest.mark.slow
def test_a_run_is_read_once(command, monkeypatch, tmp_path):
    """From the flags to the report: one task, one of each variant, one digest; costs and tests once per cell."""
    calls: Counter[str] = Counter()

    def count(module: Any, name: str, label: str) -> None:
        real = getattr(module, name)

        def counted(*arguments: Any, **fields: Any) -> Any:
            calls[label] += 1
            return real(*arguments, **fields)

        monkeypatch.setattr(module, name, counted)

    sizes._numbers.cache_clear()
    fused_softmax.without_kernel.cache_clear()
    count(MQAR, "__post_init__", "task")
    count(SlidingWindowAttention, "__post_init__", "variant")
    count(specs, "parse_spec", "spec")
    count(identity, "digests", "digest")
    count(compute, "gradient_step", "cost")
    count(other_rows, "_read", "program of tests")
    vary = "--vary=model.attention=conv+sliding_window:window_size=7"
    rows = "--config.eval.test_lengths=32", "--config.task=mqar:length=16,num_pairs=2,vocab_size=37"
    assert command(vary, *rows)[0] == 0
    further = 1  # the task at the other length
    specs_named = 1 + 2 + 1 + 3  # task, two layers, position, then norm, optimizer and schedule
    drawn = 2  # layers, whose sizes a picture may be over; once per process
    counted = 1  # the variant without the kernels of a library, once per process
    expected = {"task": 1 + further, "variant": 1 + counted, "digest": 1, "cost": 1, "program of tests": 1}
    assert calls == expected | {"spec": specs_named + drawn}
    calls.clear()
    assert command(vary, *rows, "--seeds=5")[0] == 0
    assert calls == {"task": 5 * (1 + further), "variant": 5, "spec": 5 * specs_named, "digest": 5}
    results = [folder.result() for folder in run_folder.open_study(tmp_path / "results" / "tiny")]
    assert len(results) == 5 and len({result["cell"] for result in results}) == 1


def test_dry_run_counts_the_cost_of_a_cell_once(command, monkeypatch):
    counted = []
    real = compute.gradient_step
    monkeypatch.setattr(compute, "gradient_step", lambda *args: counted.append(args) or real(*args))
    code, out, _ = command("--dry_run", "--vary=model.mlp_dim=31|37", "--seeds=4")
    assert code == 0 and len(counted) == 2 and "8 runs" in out


def test_one_real_run_from_the_command_to_the_report(command, tmp_path):
    code, out, _ = command()
    assert code == 0 and "[1/1] conv+full  seed=0  step 6/6" in out
    (folder,) = run_folder.open_study(tmp_path / "results" / "tiny")
    result = folder.result()
    assert result["status"] == "done" and result["steps"] == 6 and len(result["parameter_hash"]) == 64
    assert 0.5 < result["floor"] < result["ceiling"] == 1.0 and "distance" in result["slices"]
    assert "conv+" in (tmp_path / "results" / "tiny" / "report.html").read_text()


def test_divergence_is_met_for_real(command, tmp_path):
    code, out, _ = command("--config.train.learning_rate=1e25")
    (folder,) = run_folder.open_study(tmp_path / "results" / "tiny")
    assert code == 0 and folder.result()["status"] == "diverged" and folder.result()["diverged_at"] <= 6
    assert "diverged: NaN or infinity at step" in out


def test_lists(command):
    code, out, _ = command("--list_variants", "--list_tasks", "--list_config", config=None)
    assert code == 0
    for expected in (
        "sliding_window:window_size=64",
        "length * window_size",
        "arXiv:2004.05150",
        "mqar:length=",
        "train.schedule=cosine",
    ):
        assert expected in out


def test_plain_lines_have_the_time_left_and_no_terminal_codes(command, trained):
    _, out, _ = command()
    (line,) = [line for line in out.splitlines() if "step 3/6" in line]
    assert line == "[1/1] conv+full  seed=0  step 3/6  loss 1.000  validation 0.500  5 k tokens/s  about 1 s left"


def test_a_sweep_is_trained_selected_and_overridden(command, trained, tmp_path):
    with open(tmp_path / "tiny.py", "a") as file:
        file.write(
            "\ndef sweep(add):\n"
            "    for width, rate in ((12, 0.01), (24, 0.02), (24, 0.03)):\n"
            "        add({'model.model_dim': width, 'train.learning_rate': rate})\n"
        )
    assert command("--select=train.learning_rate")[0] == 0
    assert [(run.model.model_dim, run.train.learning_rate) for run in trained] == [(12, 0.01), (24, 0.02), (24, 0.03)]
    assert {run.config.study.select for run in trained} == {("train.learning_rate",)}
    trained.clear()
    assert command("--config.train.learning_rate=0.02")[0] == 0
    assert [(run.model.model_dim, run.train.learning_rate) for run in trained] == [(12, 0.02)]  # 24 has ended
    trained.clear()
    assert command("--vary=train.learning_rate=log(1e-4,1e-2,3)")[0] == 0
    assert [(run.model.model_dim, run.train.learning_rate) for run in trained] == [(12, 1e-4), (12, 1e-3)]  # 0.01, too
    code, _, err = command("--select=train.steps")
    assert code == 2 and "'train.steps' is not varied; varied fields: model.model_dim, train.learning_rate." in err


def test_a_long_study_is_begun_only_when_asked(command, trained, monkeypatch):
    monkeypatch.setattr(forecast, "MOST_RUNS", 3)
    code, _, err = command("--seeds=4")
    assert code == 2 and not trained and err.startswith("error: 4 runs are to be trained") and "need --yes" in err
    code, out, _ = command("--seeds=4", "--dry_run")
    assert code == 0 and "4 runs, at most" in out and "\nTime: about " in out
    assert command("--seeds=4", "--yes")[0] == 0 and len(trained) == 4
    assert command("--seeds=7")[0] == 0 and len(trained) == 7  # three are left
