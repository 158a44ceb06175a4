"""What the accounting command prints and writes; how fast anything is, is no test's business."""

import json

import jax
import pytest

from experiments import account, cli
from experiments.benchmarks import accounting, roofline
from experiments.benchmarks.roofline import Machine
from tests.experiments.conftest import CONFIG
from tests.experiments.tiny import tiny_cost

VARY = "--vary=model.attention=conv+full|linear"
PASSES = ["forward", "training step", "prefill", "decode"]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Returns a function that accounts for a tiny model and gives (exit code, standard output, standard error)."""
    (tmp_path / "tiny.py").write_text(CONFIG)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["account", f"--config={tmp_path / 'tiny.py'}", *arguments])
        return cli.execute(account.run, account.FLAGS), *capsys.readouterr()

    return call


@pytest.mark.slow
def test_what_is_counted_is_printed_and_written_without_a_clock(command, tmp_path):
    output = tmp_path / "account.json"
    code, out, _ = command("--noclock", VARY, f"--output={output}")
    assert code == 0
    written = json.loads(output.read_text())
    assert written["machine"] is None and written["environment"]["jax"] == jax.__version__
    assert [model["model"] for model in written["models"]] == ["conv+full", "linear"]
    fields = {"task": "mqar:length=16,num_pairs=2,vocab_size=19"}
    for model in written["models"]:
        counted = tiny_cost(model__attention=model["model"], train__steps=2, **fields)
        assert list(model["passes"]) == PASSES
        step = model["passes"]["training step"]
        assert (
            2 * step["flops"] == counted["train_flops_executed"] and 2 * step["ideal"] == counted["train_flops_ideal"]
        )
        assert "seconds" not in step and step["tokens"] == 5 * 16
        memory = model["memory"]
        assert memory["peak"] > memory["temporaries"] > 0
        assert memory["params"] == 4 * (counted["params"] + counted["control_params"])
    work, held, *_ = out.split("\n\n")
    for table, rows in ((work, 2 * len(PASSES)), (held, 2)):
        assert len(table.splitlines()) == 1 + rows and len({len(line) for line in table.splitlines()}) == 1
    assert "tokens/s" not in out and "conv+full" in held


@pytest.mark.slow
def test_with_the_clock_every_pass_has_a_time_and_its_share_of_the_machine(command, tmp_path, monkeypatch):
    monkeypatch.setattr(roofline, "measure", lambda: Machine(1e9, 1e10))
    output = tmp_path / "account.json"
    code, out, _ = command("--repeats=1", "--format=markdown", f"--output={output}", "--config.model.attention=lsh")
    assert code == 0
    (model,) = json.loads(output.read_text())["models"]
    for counted in model["passes"].values():
        assert counted["tokens_per_second"] == pytest.approx(counted["tokens"] / counted["seconds"])
        assert counted["of_matmul"] == pytest.approx(counted["flops"] / counted["seconds"] / 1e9)
        assert counted["of_bandwidth"] > 0
    decode = model["passes"]["decode"]
    traffic = decode["of_bandwidth"] * decode["seconds"] * 1e10
    assert traffic == pytest.approx(model["memory"]["params"] + model["memory"]["cache"])
    lines = out.splitlines()
    assert lines[0].startswith("| model | pass | tokens |") and lines[1].count("---") == lines[0].count("|") - 1
    assert decode["argmax"] > 0 and "1GFLOP/s" in out.replace(" ", "") and "10GB/s" in out.replace(" ", "")


@pytest.mark.parametrize(
    "arguments, labels",
    [
        (["--vary=train.learning_rate=0.1|0.2"], ["conv+full"]),
        (["--match=state", VARY, "--config.model.model_dim=48"], ["conv+full  ", "linear  model.head_dim="]),
        (["--vary=train.batch_size=3|5"], ["conv+full  train.batch_size=3", "conv+full  train.batch_size=5"]),
    ],
)
def test_every_model_that_costs_something_of_its_own_is_measured(command, monkeypatch, arguments, labels):
    """Rates cost nothing, and are in no name; matched rows are those that would be trained."""
    asked = []
    monkeypatch.setattr(accounting, "measure", lambda runs, repeats, clock: asked.append((runs, clock)) or (None, []))
    code, out, _ = command(*arguments)
    assert code == 0 and ("Matched state" in out) == ("--match=state" in arguments)
    ((runs, clock),) = asked
    assert clock and len(runs) == len(labels) and not any("learning_rate" in name for name in runs)
    assert [label for label, name in zip(labels, runs, strict=True) if not name.startswith(label)] == []


@pytest.mark.parametrize(
    "arguments, names",
    [
        (["--config.model.attention=ful"], ["'ful'", "full"]),
        (["--vary=model.attention=full|ful"], ["'ful'"]),
        (["--noclock", "--repeats=3"], ["--repeats", "--noclock"]),
        (["--format=latex"], ["--format", "markdown"]),
        (["--repeat=3"], ["--repeat", "--repeats"]),
        (["--match=parms"], ["--match", "params"]),
        (["--output=."], ["--output", "folder"]),
        (["--config="], ["--config"]),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(command, arguments, names):
    code, out, err = command(*arguments)
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert [name for name in names if name not in err] == []


def test_the_machine_is_measured_at_a_size_that_takes_long_enough(monkeypatch):
    """A call of a quarter of what is long enough is made four times as large: twice each way for a product."""
    monkeypatch.setattr(roofline, "_product_seconds", lambda size: 0.02 * (size / 2048) ** 3)
    monkeypatch.setattr(roofline, "_copy_seconds", lambda size: 0.02 * size / 2**26)
    machine = roofline.measure()
    assert machine.matmul_flops == pytest.approx(2 * 2048**3 / 0.02)
    assert machine.bandwidth == pytest.approx(2 * 4 * 2**26 / 0.02)
    assert roofline.share(machine, machine.matmul_flops, machine.bandwidth, 2.0) == pytest.approx((0.5, 0.5))
