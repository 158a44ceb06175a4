r"""Times attention, forward and with gradient, and measures its memory; prints a table, and JSON with --output.

python -m experiments.benchmark
python -m experiments.benchmark --variants='full|sliding_window:window_size=128|linear' --lengths=2048,16384
python -m experiments.benchmark --training --config=configs/throughput.py
python -m experiments.benchmark --generation

All contenders run in one process and take turns, so that a busy moment hits them alike; times are medians. The first
contender is the baseline: `jax.nn` is `jax.nn.dot_product_attention`, which materialises length^2 weights and is left
out above --baseline_max_length. `time x` and `memory x` compare each length with the shortest.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli, runtime
from experiments.benchmarks import attention, data, training
from experiments.config.files import load_config
from experiments.reporting.text import describe_environment
from experiments.studies.run_folder import check_writable, write_file

_LONGEST = 2**20

FLAGS = cli.new_flags()
_VARIANTS = flags.DEFINE_string(
    "variants",
    None,
    "Specs of the variants, between '|'; by default every registered one, the window at 128 keys.",
    flag_values=FLAGS,
)
_LENGTHS = flags.DEFINE_list("lengths", ["2048", "4096", "16384"], "Sequence lengths.", flag_values=FLAGS)
_BATCH = flags.DEFINE_integer("batch", 1, "Sequences per call.", lower_bound=1, flag_values=FLAGS)
_HEADS = flags.DEFINE_integer("num_heads", 4, "Heads.", lower_bound=1, flag_values=FLAGS)
_DIM = flags.DEFINE_integer("head_dim", 64, "Dimensions of a head.", lower_bound=1, flag_values=FLAGS)
_CAUSAL = flags.DEFINE_bool("causal", True, "Causal attention.", flag_values=FLAGS)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed calls of each contender.", lower_bound=1, flag_values=FLAGS)
_BASELINE_MAX = flags.DEFINE_integer(
    "baseline_max_length", 4096, "Longest sequence for the baseline.", flag_values=FLAGS
)
_TRAINING = flags.DEFINE_bool("training", False, "Time whole training steps of --config instead.", flag_values=FLAGS)
_CONFIG = flags.DEFINE_string("config", "configs/throughput.py", "For --training.", flag_values=FLAGS)
_GENERATION = flags.DEFINE_bool("generation", False, "Time the generation of data instead.", flag_values=FLAGS)
_TASKS = flags.DEFINE_string(
    "tasks", None, "For --generation: specs of tasks between '|'; by default all.", flag_values=FLAGS
)
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "markdown"], "How to print the table.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the timings and the environment.", flag_values=FLAGS)


def run() -> None:
    """Measures what the flags ask for, prints it and writes --output."""
    if _OUTPUT.value:
        if Path(_OUTPUT.value).is_dir():
            raise cli.UsageError(f"--output={_OUTPUT.value} is a folder; expected a file.")
        check_writable(Path(_OUTPUT.value).absolute().parent)  # before the measurement, which must not be lost
    timings, text = _measure()
    print(f"{text}\n\n{describe_environment(runtime.environment())}")
    if _OUTPUT.value:
        asked = {
            name: FLAGS[name].value for name in ("variants", "lengths", "batch", "num_heads", "head_dim", "causal")
        }
        content = {"environment": runtime.environment(), "flags": asked, "figures": timings}
        write_file(Path(_OUTPUT.value), json.dumps(content, indent=1) + "\n")


def _measure() -> tuple[Sequence[dict[str, Any]], str]:
    """Returns the timings and how they are printed."""
    if _TRAINING.value and _GENERATION.value:
        raise cli.UsageError("--training and --generation are two measurements; ask for one of them.")
    if _TRAINING.value:
        steps = training.measure(load_config(_CONFIG.value))
        return steps, training.render(steps)
    if _GENERATION.value:
        drawn = data.measure(_TASKS.value.split("|") if _TASKS.value else None)
        return [dataclasses.asdict(each) for each in drawn], data.render(drawn)
    sizes = attention.Sizes(_BATCH.value, _HEADS.value, _DIM.value, _CAUSAL.value, _REPEATS.value, _BASELINE_MAX.value)
    timings = attention.measure(attention.contenders(_VARIANTS.value), _lengths(_LENGTHS.value), sizes)
    return [dataclasses.asdict(each) for each in timings], attention.render(timings, _FORMAT.value, sizes)


def _lengths(texts: Sequence[str]) -> list[int]:
    try:
        lengths = sorted({int(text) for text in texts})
    except ValueError:
        lengths = []
    if not lengths or lengths[0] < 1 or lengths[-1] > _LONGEST:
        raise cli.UsageError(
            f"--lengths must be integers from 1 to {_LONGEST} between commas; got {','.join(texts)!r}."
        )
    return lengths


if __name__ == "__main__":
    cli.main(run, FLAGS)
