r"""Times attention, forward and with gradient, and measures its memory; prints a table, and JSON with --output.

python -m experiments.benchmark
python -m experiments.benchmark --variants='full|sliding_window:window_size=128|linear' --lengths=2048,16384
python -m experiments.benchmark --training --config=configs/throughput.py
python -m experiments.benchmark --generation

All contenders run in one process and take turns, so that a busy moment hits them alike; figures are medians. The first
contender is the baseline: `jax.nn` is `jax.nn.dot_product_attention`, which materialises length^2 weights and is left
out above --baseline_max_length. `growth` compares each length with the shortest.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from attention_variants import cost
from attention_variants.interface import AttentionVariant
from attention_variants.registry import VARIANTS, make_variant
from experiments import command_line, generation, store, study, train
from experiments.table import describe_environment, human

BASELINE = "jax.nn"
_LONGEST = 2**20

FLAGS = command_line.new_flags()
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
    "baseline_max_length", 4096, "Longest sequence for the baseline and other quadratic memory.", flag_values=FLAGS
)
_TRAINING = flags.DEFINE_bool("training", False, "Time whole training steps of --config instead.", flag_values=FLAGS)
_CONFIG = flags.DEFINE_string("config", "configs/throughput.py", "For --training.", flag_values=FLAGS)
_GENERATION = flags.DEFINE_bool("generation", False, "Time the making of data instead.", flag_values=FLAGS)
_TASKS = flags.DEFINE_string(
    "tasks", None, "For --generation: specs of tasks between '|'; by default all.", flag_values=FLAGS
)
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "markdown"], "How to print the table.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the figures and the environment.", flag_values=FLAGS)

Contender = Callable[[Any, Any, Any], Any]


@dataclasses.dataclass
class Figure:
    """One contender at one length; times in milliseconds, medians."""

    variant: str
    length: int
    forward_ms: float
    gradient_ms: float  # forward and gradient together
    executed_flops: int  # forward and gradient together
    peak_bytes: int  # temporaries of the compiled forward and gradient
    forward_speedup: float | None = None  # over the baseline at this length
    speedup: float | None = None  # over the baseline at this length, with gradient
    time_growth: float | None = None  # over the shortest length, with gradient
    memory_growth: float | None = None  # over the shortest length


def main() -> int:
    """Runs the command line; returns the exit code."""
    return command_line.execute(run, FLAGS)


def run() -> None:
    """Measures what the flags ask for, prints it and writes --output."""
    if _OUTPUT.value:
        if Path(_OUTPUT.value).is_dir():
            raise command_line.UsageError(f"--output={_OUTPUT.value} is a folder; expected a file.")
        store.check_writable(Path(_OUTPUT.value).absolute().parent)  # before the measurement, which must not be lost
    if _TRAINING.value and _GENERATION.value:
        raise command_line.UsageError("--training and --generation are two measurements; ask for one of them.")
    if _TRAINING.value:
        figures: Sequence[dict[str, Any]] = training_figures(_CONFIG.value)
        for figure in figures:
            print(f"{figure['attention']}: {figure['tokens_per_second']:,.0f} training tokens/s")
    elif _GENERATION.value:
        generated = generation.generation_figures(_TASKS.value.split("|") if _TASKS.value else None)
        figures = [dataclasses.asdict(figure) for figure in generated]
        print(generation.render(generated))
    else:
        measured = attention_figures(contenders(_VARIANTS.value), _lengths(_LENGTHS.value))
        figures = [dataclasses.asdict(figure) for figure in measured]
        print(render(measured, _FORMAT.value))
    print("\n" + describe_environment(store.environment()))
    if _OUTPUT.value:
        text = json.dumps({"environment": store.environment(), "flags": _flags(), "figures": figures}, indent=1)
        store.write_file(Path(_OUTPUT.value), text + "\n")


def contenders(specs: str | None) -> dict[str, AttentionVariant | None]:
    """Returns name -> variant, the baseline first as None."""
    if specs is None:
        sharper = {"sliding_window": "sliding_window:window_size=128"}
        specs = "|".join(sharper.get(name, name) for name in VARIANTS)
    names = [name.strip() for name in specs.split("|")]
    return {BASELINE: None} | {name: make_variant(name) for name in names if name != BASELINE}


def attention_figures(variants: dict[str, AttentionVariant | None], lengths: Sequence[int]) -> list[Figure]:
    """Measures every contender at every length."""
    figures = []
    for length in lengths:
        present = {n: v for n, v in variants.items() if v is not None or length <= _BASELINE_MAX.value}
        figures += _figures_at(present, length)
    by_key = {(figure.variant, figure.length): figure for figure in figures}
    for figure in figures:
        baseline, first = by_key.get((BASELINE, figure.length)), by_key.get((figure.variant, lengths[0]))
        if baseline is not None:
            figure.forward_speedup = baseline.forward_ms / figure.forward_ms
            figure.speedup = baseline.gradient_ms / figure.gradient_ms
        if first is not None and figure.length != lengths[0]:
            figure.time_growth = figure.gradient_ms / first.gradient_ms
            figure.memory_growth = figure.peak_bytes / first.peak_bytes
    return figures


def _figures_at(variants: dict[str, AttentionVariant | None], length: int) -> list[Figure]:
    shape = (3, _BATCH.value, length, _HEADS.value, _DIM.value)
    query, key, value = jax.random.normal(jax.random.key(0), shape)
    compiled, figures = {}, {}
    for name, variant in variants.items():
        attend = _attend(variant)
        gradient = _with_gradient(attend)
        flops = cost.count_flops(gradient, query, key, value)
        both = jax.jit(gradient).lower(query, key, value).compile()
        compiled[name] = jax.jit(attend).lower(query, key, value).compile(), both
        figures[name] = Figure(name, length, 0.0, 0.0, flops, cost.temporary_bytes(both))
    forwards = _take_turns({name: pair[0] for name, pair in compiled.items()}, (query, key, value))
    gradients = _take_turns({name: pair[1] for name, pair in compiled.items()}, (query, key, value))
    for name, figure in figures.items():
        figure.forward_ms, figure.gradient_ms = forwards[name], gradients[name]
    return list(figures.values())


def _attend(variant: AttentionVariant | None) -> Contender:
    causal = _CAUSAL.value
    if variant is None:
        return lambda query, key, value: jax.nn.dot_product_attention(query, key, value, is_causal=causal)
    if variant.has_controls:
        from flax import nnx

        module = variant.make_controls(64, _HEADS.value, _HEADS.value, _DIM.value, rngs=nnx.Rngs(0))

        def with_controls(query: Any, key: Any, value: Any) -> Any:
            x = jnp.ones((*query.shape[:2], 64), query.dtype)
            return variant(query, key, value, causal=causal, controls=module(x))  # type: ignore[misc]

        return with_controls
    return lambda query, key, value: variant(query, key, value, causal=causal)


def _with_gradient(attend: Contender) -> Contender:
    def loss(query: Any, key: Any, value: Any) -> Any:
        return jnp.sum(attend(query, key, value) * value)

    return jax.value_and_grad(loss, argnums=(0, 1, 2))


def _take_turns(compiled: dict[str, Any], arguments: tuple[Any, ...]) -> dict[str, float]:
    """Returns the median milliseconds of each function.

    They are called in turns, and each turn is an untimed call and a timed one: what the others left in the caches would
    cost a long call more than a short one.
    """
    times: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(_REPEATS.value):
        for name, function in compiled.items():
            jax.block_until_ready(function(*arguments))
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def training_figures(config_path: str) -> list[dict[str, Any]]:
    """Measures training tokens per second of every cell of a config's grid, one seed each."""
    figures = []
    for config in study.expand(study.load_config(config_path), (), 1):
        train.validate(config)
        attention = config["model"]["attention"]
        figures.append({"attention": attention, "tokens_per_second": train.throughput(config, 300)})
    return figures


def render(figures: Sequence[Figure], style: str) -> str:
    """Returns the figures as aligned text or as a Markdown table, with a line that says what they are."""
    header = (
        "variant",
        "length",
        "forward ms",
        "with gradient ms",
        "FLOPs",
        "temporaries",
        "forward x",
        "gradient x",
        "time x",
        "memory x",
    )
    rows = [header, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    aligned = [
        [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    what = (
        f"{_BATCH.value} x {_HEADS.value} heads x {_DIM.value}, float32, causal={_CAUSAL.value}; "
        f"medians of {_REPEATS.value}. FLOPs and temporaries: of forward and gradient together; forward x and gradient "
        f"x: times faster than {BASELINE}; time x and memory x: over the shortest length, with gradient."
    )
    if style == "markdown":
        aligned.insert(1, ["---", *["---:"] * (len(header) - 1)])
        return "\n".join([*("| " + " | ".join(row) + " |" for row in aligned), "", what])
    return "\n".join([*("  ".join(row) for row in aligned), "", what])


def _cells(figure: Figure) -> tuple[str, ...]:
    ratios = (figure.forward_speedup, figure.speedup, figure.time_growth, figure.memory_growth)
    return (
        figure.variant,
        str(figure.length),
        f"{figure.forward_ms:.1f}",
        f"{figure.gradient_ms:.1f}",
        human(figure.executed_flops),
        human(figure.peak_bytes, "B"),
        *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
    )


def _lengths(texts: Sequence[str]) -> list[int]:
    try:
        lengths = sorted({int(text) for text in texts})
    except ValueError:
        lengths = []
    if not lengths or lengths[0] < 1 or lengths[-1] > _LONGEST:
        raise command_line.UsageError(
            f"--lengths must be integers from 1 to {_LONGEST} between commas; got {','.join(texts)!r}."
        )
    return lengths


def _flags() -> dict[str, Any]:
    return {name: FLAGS[name].value for name in ("variants", "lengths", "batch", "num_heads", "head_dim", "causal")}


if __name__ == "__main__":
    raise SystemExit(main())
