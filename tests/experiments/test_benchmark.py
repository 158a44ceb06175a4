"""What the benchmark prints and writes; how fast anything is, is no test's business."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants import cost
from attention_variants.registry import VARIANTS, make_variant
from experiments import benchmark, cli
from experiments.benchmarks import attention, data, decoding, training
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.training import loop

SMALL = ("--num_heads=2", "--head_dim=4", "--repeats=1")


def execute(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["benchmark", *arguments])
    return cli.execute(benchmark.run, benchmark.FLAGS)


@pytest.mark.slow
def test_every_contender_is_measured_at_every_length(monkeypatch, capsys, tmp_path):
    variants = ("full:block_size=8", "sliding_window:window_size=5", "gated_linear:chunk_size=4")
    output = tmp_path / "figures.json"
    asked = (f"--variants={'|'.join(variants)}", "--lengths=32,16", "--baseline_max_length=16", f"--output={output}")
    assert execute(monkeypatch, *asked, *SMALL) == 0
    written = json.loads(output.read_text())
    figures = {(figure["variant"], figure["length"]): figure for figure in written["figures"]}
    assert set(figures) == {(name, length) for name in variants for length in (16, 32)} | {("jax.nn", 16)}
    assert written["environment"]["jax"] == jax.__version__ and written["flags"]["head_dim"] == 4
    assert written["exponents"] == [], "of two lengths"
    for (name, length), figure in figures.items():
        low, high = figure["gradient_quartiles"]
        assert low == figure["gradient_ms"] == high, "of one call"
        assert figure["forward_ms"] > 0 and figure["gradient_ms"] > 0 and figure["peak_bytes"] > 0
        assert (figure["speedup"] is None) == (length == 32) == (figure["time_growth"] is not None), name
    assert figures["jax.nn", 16]["speedup"] == figures["jax.nn", 16]["forward_speedup"] == 1.0
    out = capsys.readouterr().out
    lines = out.split("\n\n")[0].splitlines()
    end = lines[0].index("with gradient ms") + len("with gradient ms")
    assert all(line[end - 1].strip() and line[end] == " " for line in lines), "columns are aligned"


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
def test_by_default_all_that_can_be_called_are_measured(causal):
    query = jax.ShapeDtypeStruct((1, 32, 2, 4), jnp.float32)
    found = attention.contenders(None, causal)
    sizes = attention.Sizes(batch=1, num_heads=2, head_dim=4, causal=causal)
    for variant in found.values():
        jax.eval_shape(attention.contender(variant, sizes), query, query, query)
    named = {name.partition(":")[0] for name in found}
    way = "supports_causal" if causal else "supports_bidirectional"
    assert named - {"jax.nn"} == {name for name, kind in VARIANTS.items() if getattr(kind, way)}


def test_what_is_timed_is_what_is_counted(monkeypatch, capsys, tmp_path):
    """The FLOPs of a variant without controls are those of its own call and of nothing else."""
    output, variant = tmp_path / "figures.json", make_variant("sliding_window:window_size=5")
    asked = ("--variants=sliding_window:window_size=5", "--lengths=16", f"--output={output}")
    assert execute(monkeypatch, *asked, *SMALL, "--nocausal", "--format=markdown") == 0
    query, key, value = jax.random.normal(jax.random.key(0), (3, 1, 16, 2, 4))

    def loss(query, key, value):
        return (variant(query, key, value, causal=False) * value).sum()

    counted = cost.count_flops(jax.value_and_grad(loss, argnums=(0, 1, 2)), query, key, value)
    assert json.loads(output.read_text())["figures"][-1]["executed_flops"] == counted
    heading, rule, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 and {line.count("|") for line in (rule, *rows)} == {heading.count("|")}


@pytest.mark.slow
def test_decoding_is_timed_and_its_state_counted(monkeypatch, capsys, tmp_path):
    output, mixers = tmp_path / "figures.json", ("full", "linear", "conv+sliding_window:window_size=5")
    asked = ("--decoding", f"--variants={'|'.join(mixers)}", "--lengths=70,67", f"--output={output}", *SMALL)
    assert execute(monkeypatch, *asked, "--format=markdown") == 0
    figures = {(each["mixer"], each["length"]): each for each in json.loads(output.read_text())["figures"]}
    assert set(figures) == {(name, length) for name in mixers for length in (67, 70)}
    width = 2 * 4
    assert all(each["prefill_us"] > 0 and each["step_us"] > 0 for each in figures.values())
    state = {key: (each["state_bytes"], each["token_bytes"]) for key, each in figures.items()}
    for length in (67, 70):
        assert state["full", length] == (4 * 2 * width * length, 4 * 2 * width)
        assert state["linear", length] == state["linear", 70] and state["linear", length][1] == 0
        assert state["conv+sliding_window:window_size=5", length] == (4 * 2 * width * 5 + 4 * 2 * width, 0)
    out = capsys.readouterr().out
    assert "From 67 to 70 tokens of context" in out and " of 2." in out, "linear, and the window, are bounded"
    heading, rule, *rows = [line for line in out.splitlines() if line.startswith("|")]
    assert len(rows) == 6 and {line.count("|") for line in (rule, *rows)} == {heading.count("|")}
    assert "conv" in decoding.MIXERS and "linformer" not in decoding.MIXERS and len(decoding.MIXERS) >= 35


@pytest.mark.slow
def test_generation_is_told_as_a_share_of_the_step(monkeypatch, capsys):
    monkeypatch.setattr(data, "_CALLS", 2)
    monkeypatch.setattr(data, "_REPEATS", 1)
    tasks = "mqar:length=14,num_pairs=3,vocab_size=22|listops:min_length=500,max_length=600"
    assert execute(monkeypatch, "--generation", f"--tasks={tasks}") == 0
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    task, length, rows, batch_ms, step_ms, share = (cell.strip() for cell in first.split("|")[1:-1])
    assert task == "`mqar:length=14,num_pairs=3,vocab_size=22`" and length == "14" and "," in rows
    # Each cell is rounded by itself.
    assert float(share.rstrip("%")) / 100 == pytest.approx(float(batch_ms) / float(step_ms), rel=0.2, abs=0.01)
    assert second.split("|")[5].strip() == second.split("|")[6].strip() == "", "steps of long rows are not timed"


def test_training_times_every_cell_of_a_sweep_and_names_its_size(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(loop, "throughput", lambda run, steps: 1000.0 * run.model.model_dim + steps)
    output = tmp_path / "figures.json"
    assert execute(monkeypatch, "--training", f"--output={output}") == 0
    speeds = {each["cell"]: each["tokens_per_second"] for each in json.loads(output.read_text())["figures"]}
    assert len(speeds) == 6 and speeds["full, width 64, 64 tokens"] == 64_000 + 1_000_000 // 64**2
    assert speeds["linear, width 128, 128 tokens"] == 128_000 + 1_000_000 // (64 * 128)
    assert "linear, width 128, 128 tokens: 128,122 training tokens/s" in capsys.readouterr().out


def test_cells_of_one_size_are_named_by_what_they_differ_in():
    configs = [Config.from_nested({"task": "mqar", "train": {"learning_rate": rate}}) for rate in (0.1, 0.2)]
    assert training.labels([*map(Run.read, configs)]) == [
        f"{configs[0].model.attention}  train.learning_rate={rate}" for rate in (0.1, 0.2)
    ]


@pytest.mark.slow
def test_a_process_of_its_own_says_what_it_held(monkeypatch, capsys, tmp_path):
    output = tmp_path / "figures.json"
    asked = ("--apart", "--variants=linear:chunk_size=4", "--lengths=32,16", "--dtype=bfloat16", f"--output={output}")
    held = np.ones(2**30, np.int8)  # which is ours, not theirs
    assert execute(monkeypatch, *asked, *SMALL) == 0 and held.all()
    first, second = json.loads(output.read_text())["figures"]
    assert (first["length"], second["length"]) == (16, 32) and first["time_growth"] is None
    for each in (first, second):
        assert 2e7 < each["resident_bytes"] < 2**30 and each["peak_bytes"] < each["resident_bytes"]
    assert second["memory_growth"] == second["peak_bytes"] / first["peak_bytes"]
    assert "bfloat16" in capsys.readouterr().out


@pytest.mark.slow
def test_what_a_process_cannot_do_is_one_line(monkeypatch, capsys):
    assert execute(monkeypatch, "--apart", "--variants=cosformer:horizon=8", "--lengths=16", *SMALL) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: cosformer:horizon=8 at length 16: ") and err.count("\n") == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_inputs_have_the_dtype_that_is_asked_for(dtype, monkeypatch):
    seen = []
    monkeypatch.setattr(attention, "_compiled", lambda name, attend, arrays: seen.extend(arrays) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        execute(monkeypatch, "--variants=full", "--lengths=16", f"--dtype={dtype}", *SMALL)
    assert {array.dtype.name for array in seen} == {dtype} and len(seen) == 3


def test_what_takes_too_long_is_left_out_at_greater_lengths(monkeypatch, capsys, tmp_path):
    def measure_at(variants, length, sizes, *, with_peers):
        return [
            attention.Timing(name, length, 1.0, (length**2 if name == "full" else length) + 900, 3, 4)
            for name in variants
        ]

    monkeypatch.setattr(attention, "measure_at", measure_at)
    output, pictures = tmp_path / "figures.json", tmp_path / "pictures"
    asked = ("--variants=full|linear", "--lengths=4,8,16,32", "--longest_call=1", "--baseline_max_length=0")
    assert execute(monkeypatch, *asked, f"--output={output}", f"--plot={pictures}") == 0
    written = json.loads(output.read_text())
    assert [each["length"] for each in written["figures"] if each["variant"] == "full"] == [4, 8, 16]
    assert [each["lengths"] for each in written["exponents"]] == [[4, 8, 16], [4, 8, 16, 32]]
    growth = [each["time_growth"] for each in written["figures"] if each["variant"] == "linear"]
    assert growth == [None, 908 / 904, 916 / 904, 932 / 904]
    assert (pictures / "attention_time.png").exists()


def test_a_mixer_whose_prompt_takes_long_is_not_decoded_further(monkeypatch, capsys):
    def measure_at(runs, length, sizes):
        slow = {"full": 1e6 / 200}  # microseconds a token: a second at length 200
        return [decoding.Timing(name, length, slow.get(name, 1.0), 5.0, 8, name == "full") for name in runs]

    monkeypatch.setattr(decoding, "_measure_at", measure_at)
    asked = ("--decoding", "--variants=full|linear", "--lengths=100,250,300", "--longest_call=1")
    assert execute(monkeypatch, *asked, *SMALL) == 0
    out = capsys.readouterr().out
    lengths = {
        name: [line.split()[1] for line in out.splitlines() if line.startswith(name)] for name in ("full", "linear")
    }
    assert lengths == {"full": ["100", "250"], "linear": ["100", "250", "300"]}
    assert "From 100 to 300 tokens" in out and "once a prompt took 1 s" in out


MISTAKES = {
    "--dtype=float16": "flag --dtype=float16",
    "--plot=pyproject.toml": "--plot=pyproject.toml is no folder; expected one, which need not exist.",
    "--plot=": "--plot= is no folder",
    "--longest_call=-1": "flag --longest_call=-1",
    "--apart --peers": "--apart measures a variant at a length by itself; leave --peers and --longest_call out.",
    "--profile": "--profile is for the measurement of --training alone; this is that of attention.",
    "--training --profile --peers": "--profile times the parts of our own training step; leave --peers out.",
    "--decoding --dtype=bfloat16": "--dtype is for the measurement of attention alone; this is that of --decoding.",
    "--training --plot=x": "--plot is for the measurement of attention and --decoding alone",
    "--lengths=0": "--lengths must be integers from 1 to 1048576 between commas; got '0'.",
    "--lengths=16,many": "--lengths must be integers from 1 to 1048576 between commas; got '16,many'.",
    "--variants=ful": "unknown attention variant 'ful'",
    "--output=.": "--output=. is a folder; expected a file.",
    "--format=html": "flag --format=html",
    "--variants=": "--variants= names none; leave it out to measure all.",
    "--head_dim=1000000000000000000000": "they may have 1099511627776.",
    "--tasks=mqar": "--tasks is for the measurement of --generation alone; this is that of attention.",
    "--training --lengths=5": "--lengths is for the measurement of attention and --decoding alone; this is that of --t",
    "--decoding --nocausal": "--causal is for the measurement of attention alone; this is that of --decoding.",
    "--decoding --lengths=64,128": "--lengths must be above 64, the tokens that are decoded one by one; got 64.",
    "--decoding --variants=fulll": "unknown attention variant 'fulll'; valid choices, nearest first: full",
    "--training --format=markdown": "--format is for the tables of --training --profile",
    "--decoding --training": "--decoding and --training are 2 measurements; ask for one of them.",
    "--generation --config=nope.py": "--config is for the measurement of --training alone",
    "--generation --tasks=": "--tasks= names none; leave it out to measure all.",
    "--generation --tasks=mqar|mqra": "unknown task 'mqra'",
}


def test_what_was_measured_before_memory_ran_out_is_kept(monkeypatch, capsys, tmp_path):
    def measure_at(variants, length, sizes, *, with_peers):
        if length == 32:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 629145600000 bytes.")
        return [attention.Timing(name, length, 1.0, 2.0, 3, 4) for name in variants]

    monkeypatch.setattr(attention, "measure_at", measure_at)
    output = tmp_path / "figures.json"
    assert execute(monkeypatch, "--variants=full", "--lengths=16,32,64", f"--output={output}") == 2
    out, err = capsys.readouterr()
    assert out.count("full  ") == 1 and [each["length"] for each in json.loads(output.read_text())["figures"]] == [
        16,
        16,
    ]
    assert (
        err
        == "error: RESOURCE_EXHAUSTED: Out of memory allocating 629145600000 bytes. What was measured before is kept.\n"
    )
    assert execute(monkeypatch, "--variants=full", "--lengths=32") == 2
    assert capsys.readouterr().out == ""


def test_one_measurement_at_a_time(monkeypatch, capsys):
    assert execute(monkeypatch, "--training", "--generation") == 2
    assert "ask for one of them" in capsys.readouterr().err


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_measured(argument, monkeypatch, capsys):
    for module, name in ((attention, "measure_at"), (data, "_sample_ms")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("measured"))
    assert execute(monkeypatch, *argument.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and MISTAKES[argument] in err and err.count("\n") == 1


def test_a_wrong_task_is_one_line(monkeypatch, capsys):
    assert execute(monkeypatch, "--generation", "--tasks=mqra") == 2
    assert "unknown task 'mqra'; valid choices, nearest first: mqar" in capsys.readouterr().err
