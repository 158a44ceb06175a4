r"""Times attention, forward and with gradient, and measures its memory; prints a table, and JSON with --output.

python -m experiments.benchmark
python -m experiments.benchmark --variants='full|sliding_window:window_size=128|linear' --lengths=2048,16384
python -m experiments.benchmark --variants='full|sliding_window:window_size=128|linear' --peers
python -m experiments.benchmark --decoding --lengths=1024,4096
python -m experiments.benchmark --training --config=configs/throughput.py
python -m experiments.benchmark --generation

All contenders run in one process and take turns, so that a busy moment hits them alike; times are medians. The first
contender is the baseline: `jax.nn` is `jax.nn.dot_product_attention`, which materialises length^2 weights and is left
out above --baseline_max_length. `time x` and `memory x` compare each length with the shortest. With --peers the same
functions of other libraries take their turns, those of PyTorch where torch and local-attention are installed; with
--training, a plain PyTorch twin of each model of full attention.
--decoding times what follows a prompt, token by token, and counts the bytes of the cache; its times are those of the
fastest call.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from absl import flags

from experiments import cli, runtime
from experiments.benchmarks import attention, data, decoding, peers, training
from experiments.config import files
from experiments.reporting.text import describe_environment, listed
from experiments.studies.whole_files import check_writable, write_file

T = TypeVar("T")
_LONGEST = 2**20
_MOST_NUMBERS = 2**40  # 4 TiB
_USED = {  # flags of some measurements alone
    "attention": (
        *("variants", "lengths", "batch", "num_heads", "head_dim", "causal"),
        *("repeats", "baseline_max_length", "format", "peers"),
    ),
    "--decoding": ("variants", "lengths", "batch", "num_heads", "head_dim", "repeats", "format"),
    "--training": ("config", "peers"),
    "--generation": ("tasks",),
}

FLAGS = cli.new_flags()
_VARIANTS = flags.DEFINE_string(
    "variants",
    None,
    "Specs of the variants, between '|'; by default every registered one that can be as --causal says, the window at "
    "128 keys. With --decoding also other mixers and hybrids.",
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
_PEERS = flags.DEFINE_bool(
    "peers",
    False,
    "Measure the same functions or models of other libraries, too, as far as they are installed.",
    flag_values=FLAGS,
)
_DECODING = flags.DEFINE_bool("decoding", False, "Time decoding with a cache instead.", flag_values=FLAGS)
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
    timings, text, failure = _measure()
    if timings or failure is None:
        others = [f"{name} {version}" for name, version in peers.versions().items()] if _PEERS.value else []
        print(f"{text}\n\n{', '.join([describe_environment(runtime.environment()), *others])}")
        _write(timings)
    if failure is not None:
        kept = " What was measured before is kept." if timings else ""
        raise cli.UsageError(f"{cli.one_line(failure)}{kept}") from failure


def _write(timings: Sequence[dict[str, Any]]) -> None:
    """Writes --output, if asked for."""
    if _OUTPUT.value:
        asked = {
            name: FLAGS[name].value for name in ("variants", "lengths", "batch", "num_heads", "head_dim", "causal")
        }
        environment = runtime.environment() | ({"peers": peers.versions()} if _PEERS.value else {})
        content = {"environment": environment, "flags": asked, "figures": timings}
        write_file(Path(_OUTPUT.value), json.dumps(content, indent=1) + "\n")


def _measure() -> tuple[Sequence[dict[str, Any]], str, Exception | None]:
    """Returns the timings, how they are printed, and what ended the measurement early, such as a lack of memory."""
    _check_flags()
    runtime.check_device()
    if _PEERS.value:
        peers.use_threads(runtime.cores())
        if module := peers.missing("torch", *([] if _TRAINING.value else ["local_attention"])):
            print(f"{module} is not installed, so the peers that need it are left out.", file=sys.stderr)
    if _TRAINING.value:
        steps, failure = _collected(training.measure(files.load(_CONFIG.value), with_peers=_PEERS.value))
        return steps, training.render(steps), failure
    if _GENERATION.value:
        drawn, failure = _collected(data.measure(_TASKS.value.split("|") if _TASKS.value else None))
        return [dataclasses.asdict(each) for each in drawn], data.render(drawn), failure
    sizes = attention.Sizes(_BATCH.value, _HEADS.value, _DIM.value, _CAUSAL.value, _REPEATS.value, _BASELINE_MAX.value)
    lengths = _lengths(_LENGTHS.value)
    if _DECODING.value:
        mixers = _VARIANTS.value.split("|") if _VARIANTS.value else decoding.MIXERS
        decoded, failure = _collected(decoding.measure(mixers, lengths, sizes))
        return [dataclasses.asdict(each) for each in decoded], decoding.render(decoded, _FORMAT.value, sizes), failure
    contenders = attention.contenders(_VARIANTS.value, sizes.causal)
    timings, failure = _collected(attention.measure(contenders, lengths, sizes, with_peers=_PEERS.value))
    return [dataclasses.asdict(each) for each in timings], attention.render(timings, _FORMAT.value, sizes), failure


def _collected(measuring: Iterator[T]) -> tuple[list[T], Exception | None]:
    """Returns what could be measured, and what ended it."""
    found: list[T] = []
    try:
        for each in measuring:
            found.append(each)  # one by one: what is measured is kept where a later one fails
    except (jax.errors.JaxRuntimeError, MemoryError) as failure:
        return found, failure
    return found, None


def _check_flags() -> None:
    """Raises UsageError for flags that the measurement does not use, and for sizes beyond any memory."""
    asked = [f"--{flag.name}" for flag in (_DECODING, _TRAINING, _GENERATION) if flag.value]
    if len(asked) > 1:
        raise cli.UsageError(f"{listed(asked)} are {len(asked)} measurements; ask for one of them.")
    mode = asked[0] if asked else "attention"
    for name in dict.fromkeys(name for names in _USED.values() for name in names):
        users = [user for user, names in _USED.items() if name in names]
        if FLAGS[name].present and mode not in users:
            raise cli.UsageError(f"--{name} is for the measurement of {listed(users)} alone; this is that of {mode}.")
    for name in ("variants", "tasks"):
        if FLAGS[name].value == "":
            raise cli.UsageError(f"--{name}= names none; leave it out to measure all.")
    longest = max(_lengths(_LENGTHS.value)) if "lengths" in _USED[mode] else 1
    numbers = _BATCH.value * _HEADS.value * _DIM.value * longest
    if numbers > _MOST_NUMBERS:
        raise cli.UsageError(f"queries of these sizes would have {numbers} numbers; they may have {_MOST_NUMBERS}.")


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
