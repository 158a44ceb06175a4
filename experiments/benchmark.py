r"""Times attention, forward and with gradient, and measures its memory; prints a table, and writes JSON to --output.

python -m experiments.benchmark
python -m experiments.benchmark --variants='full|sliding_window:window_size=128|linear' --lengths=2048,16384
python -m experiments.benchmark --variants='full|sliding_window:window_size=128|linear' --peers
python -m experiments.benchmark --lengths=2048,4096,8192 --dtype=bfloat16 --plot=pictures
python -m experiments.benchmark --apart --lengths=65536 --repeats=1
python -m experiments.benchmark --decoding --lengths=1024,32768 --plot=pictures
python -m experiments.benchmark --training --config=configs/throughput.py
python -m experiments.benchmark --training --profile
python -m experiments.benchmark --generation

All contenders run in one process and take turns, so that a busy moment affects them alike; times are medians. The first
contender is the baseline: `jax.nn` is `jax.nn.dot_product_attention`, which materialises length^2 weights and is left
out above --baseline_max_length. `time x` and `memory x` compare each length with the shortest; with three lengths or
more, a second table gives the exponents of both. --plot draws time and memory against the length. With --peers, the
same functions from other libraries also take turns, those of PyTorch where torch and local-attention are installed;
with --training, a plain PyTorch twin of each full-attention model does. --apart gives each variant a process of its own
and reports how much memory that process held. --decoding times what follows a prompt, token by token, and counts the
bytes of the cache; its times are those of the fastest call. --profile shows where the time of a training step goes.
"""

import dataclasses
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
from absl import flags

from experiments import cli, runtime
from experiments.benchmarks import (
    apart,
    attention,
    attention_tables,
    data,
    decoding,
    peers,
    profile,
    roofline,
    scaling,
    training,
)
from experiments.config import files
from experiments.reporting.text import describe_environment, listed
from experiments.studies.whole_files import check_writable, write_file

T = TypeVar("T")
_LONGEST = 2**20
_MOST_NUMBERS = 2**40  # 4 TiB
_USED = {  # flags of some measurements alone
    "attention": (
        *("variants", "lengths", "batch", "num_heads", "head_dim", "causal"),
        *("repeats", "baseline_max_length", "format", "peers", "dtype", "longest_call", "apart", "plot"),
    ),
    "--decoding": (
        *("variants", "lengths", "batch", "num_heads", "head_dim", "repeats", "format", "plot", "longest_call"),
    ),
    "--training": ("config", "peers", "profile", "format"),
    "--generation": ("tasks",),
}

FLAGS = cli.new_flags()
_VARIANTS = flags.DEFINE_string(
    "variants",
    None,
    "Specs of the variants, separated by '|'; by default every registered one that supports the value of --causal, the "
    "window at 128 keys. With --decoding, also other mixers and hybrids.",
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
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Dtype of queries, keys and values.", flag_values=FLAGS
)
_LONGEST_CALL = flags.DEFINE_float(
    "longest_call",
    None,
    "Seconds: a contender whose call with gradient, or prompt, takes longer is left out at greater lengths.",
    lower_bound=0.0,
    flag_values=FLAGS,
)
_APART = flags.DEFINE_bool(
    "apart", False, "Measure each variant at each length, and its memory, in a process of its own.", flag_values=FLAGS
)
_PEERS = flags.DEFINE_bool(
    "peers",
    False,
    "Also measure the same functions or models from other libraries, as far as they are installed.",
    flag_values=FLAGS,
)
_DECODING = flags.DEFINE_bool("decoding", False, "Time decoding with a cache instead.", flag_values=FLAGS)
_TRAINING = flags.DEFINE_bool("training", False, "Time whole training steps of --config instead.", flag_values=FLAGS)
_PROFILE = flags.DEFINE_bool("profile", False, "With --training: time the parts of a step.", flag_values=FLAGS)
_CONFIG = flags.DEFINE_string("config", "configs/throughput.py", "Config file for --training.", flag_values=FLAGS)
_GENERATION = flags.DEFINE_bool("generation", False, "Time the generation of data instead.", flag_values=FLAGS)
_TASKS = flags.DEFINE_string(
    "tasks", None, "For --generation: specs of tasks, separated by '|'; by default all.", flag_values=FLAGS
)
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "markdown"], "How to print the table.", flag_values=FLAGS)
_PLOT = flags.DEFINE_string("plot", None, "Folder for pictures of time and memory against length.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the timings and the environment.", flag_values=FLAGS)


class Found(NamedTuple):
    """What was measured."""

    figures: Sequence[Any]  # dataclasses, or plain dicts
    text: str
    failure: Exception | None  # what ended the measurement early, such as a lack of memory
    further: Mapping[str, Any] = {}  # what else the JSON file says
    draw: Callable[[Sequence[Any]], Mapping[str, Any]] | None = None  # returns pictures by file name


def run() -> None:
    """Measures what the flags ask for, prints it and writes --output and --plot."""
    _check_places()
    found = _measure()
    if found.figures or found.failure is None:
        others = [f"{name} {version}" for name, version in peers.versions().items()] if _PEERS.value else []
        print(f"{found.text}\n\n{', '.join([describe_environment(runtime.environment()), *others])}")
        _write(found)
    if found.failure is not None:
        kept = " What was measured before is kept." if found.figures else ""
        raise cli.UsageError(f"{cli.one_line(found.failure)}{kept}") from found.failure


def _check_places() -> None:
    """Raises before the measurement, which must not be lost, where its results could not be written."""
    if _OUTPUT.value:
        if Path(_OUTPUT.value).is_dir():
            raise cli.UsageError(f"--output={_OUTPUT.value} is a folder; expected a file.")
        check_writable(Path(_OUTPUT.value).absolute().parent)
    if _PLOT.value is not None:
        if not _PLOT.value or Path(_PLOT.value).is_file():
            raise cli.UsageError(f"--plot={_PLOT.value} is no folder; expected one, which need not exist.")
        check_writable(Path(_PLOT.value).absolute())


def _write(found: Found) -> None:
    """Writes --output and --plot, if asked for."""
    if _OUTPUT.value:
        names = ("variants", "lengths", "batch", "num_heads", "head_dim", "causal", "dtype", "repeats")
        asked = {name: FLAGS[name].value for name in names}
        environment = runtime.environment() | ({"peers": peers.versions()} if _PEERS.value else {})
        content = {"environment": environment, "flags": asked, "figures": [*map(_plain, found.figures)]}
        write_file(Path(_OUTPUT.value), json.dumps(content | dict(found.further), indent=1) + "\n")
    if _PLOT.value and found.draw is not None:
        from experiments.benchmarks import plots  # matplotlib takes as long to import as JAX

        if not plots.write(found.draw(found.figures), _PLOT.value):
            print("A picture needs two lengths or more, so none is drawn.", file=sys.stderr)


def _plain(figure: Any) -> Any:
    return dataclasses.asdict(figure) if dataclasses.is_dataclass(figure) else figure  # type: ignore[arg-type]


def _measure() -> Found:
    _check_flags()
    runtime.check_device()
    if _PEERS.value:
        peers.use_threads(runtime.cores())
        if module := peers.missing("torch", *([] if _TRAINING.value else ["local_attention"])):
            print(f"{module} is not installed, so the peers that need it are left out.", file=sys.stderr)
    if _TRAINING.value:
        return _profile() if _PROFILE.value else _training()
    if _GENERATION.value:
        drawn, failure = _collected(data.measure(_TASKS.value.split("|") if _TASKS.value else None))
        return Found(drawn, data.render(drawn), failure)
    return _decoding() if _DECODING.value else _attention()


def _training() -> Found:
    steps, failure = _collected(training.measure(files.load(_CONFIG.value), with_peers=_PEERS.value))
    return Found(steps, training.render(steps), failure)


def _profile() -> Found:
    machine = roofline.measure()
    parts, failure = _collected(profile.measure(files.load(_CONFIG.value), machine))
    return Found(parts, profile.render(parts, machine, _FORMAT.value), failure, {"machine": machine._asdict()})


def _sizes() -> attention.Sizes:
    return attention.Sizes(
        batch=_BATCH.value,
        num_heads=_HEADS.value,
        head_dim=_DIM.value,
        causal=_CAUSAL.value,
        repeats=_REPEATS.value,
        baseline_max_length=_BASELINE_MAX.value,
        dtype=_DTYPE.value,
        longest_call=_LONGEST_CALL.value,
    )


def _decoding() -> Found:
    mixers = _VARIANTS.value.split("|") if _VARIANTS.value else decoding.MIXERS
    decoded, failure = _collected(decoding.measure(mixers, _lengths(_LENGTHS.value), _sizes()))
    return Found(decoded, decoding.render(decoded, _FORMAT.value, _sizes()), failure, draw=_pictures("of_decoding"))


def _attention() -> Found:
    sizes, lengths = _sizes(), _lengths(_LENGTHS.value)
    contenders = attention.contenders(_VARIANTS.value, sizes.causal)
    if _APART.value:
        timings, failure = _collected(apart.measure(list(contenders), lengths, sizes))
    else:
        timings, failure = _collected(attention.measure(contenders, lengths, sizes, with_peers=_PEERS.value))
    exponents = scaling.of(timings)
    text = attention_tables.render(timings, exponents, _FORMAT.value, sizes)
    held = {"exponents": [*map(_plain, exponents)], "resident_bytes": apart.resident_bytes()}
    return Found(timings, text, failure, held, _pictures("of_attention"))


def _pictures(name: str) -> Callable[[Sequence[Any]], Mapping[str, Any]]:
    """Returns a function of `plots`, which is imported when it is called."""
    return lambda figures: getattr(importlib.import_module("experiments.benchmarks.plots"), name)(figures)


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
    if _TRAINING.value and FLAGS["format"].present and not _PROFILE.value:
        raise cli.UsageError("--format is for the tables of --training --profile; without it there is a line a model.")
    if _PROFILE.value and _PEERS.value:
        raise cli.UsageError("--profile times the parts of our own training step; leave --peers out.")
    if _APART.value and (_PEERS.value or _LONGEST_CALL.value is not None):
        raise cli.UsageError("--apart measures a variant at a length by itself; leave --peers and --longest_call out.")
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
