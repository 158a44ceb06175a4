"""Times decoding with a cache, and counts its bytes: a model of one layer around each mixer, untrained."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
from flax import nnx

from experiments.benchmarks.attention import Sizes, contenders
from experiments.components import registry
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.config.sections import ModelConfig
from experiments.decoding import measures
from experiments.decoding.decoder import Decoder, Rows
from experiments.model.transformer import Model, make_model
from experiments.reporting.text import aligned, human, plural

STEPS = 64  # tokens that are decoded one by one, the last of the row
MIXERS = (*(name for name in contenders(None, causal=True) if name != "jax.nn"), *registry.MIXERS)
_TASK = "copying:length=16"  # gives the vocabulary; rows of any length are decoded


@dataclasses.dataclass
class Timing:
    """One mixer at one length; times are those of the fastest call."""

    mixer: str
    length: int
    prefill_us: float  # microseconds a token of one sequence, for all but the last tokens at once
    step_us: float  # microseconds a token of one sequence, for the last tokens one by one
    state_bytes: int  # of one sequence of that length
    token_bytes: float  # that each further token adds, up to twice the length


def measure(mixers: Sequence[str], lengths: Sequence[int], sizes: Sizes) -> Iterator[Timing]:
    """Measures every mixer at every length, lengths ascending, and yields those of a length together.

    Raises:
      ValueError: a length leaves no prompt, or a spec is wrong; one line.
      NotImplementedError: a mixer cannot be causal.
    """
    if lengths[0] <= STEPS:
        raise ValueError(f"--lengths must be above {STEPS}, the tokens that are decoded one by one; got {lengths[0]}.")
    runs = {name.strip(): _run(name.strip(), sizes) for name in mixers}
    for length in lengths:
        yield from _measure_at(runs, length, sizes)


def render(timings: Sequence[Timing], style: str, sizes: Sizes) -> str:
    """Returns the timings as aligned text or as a Markdown table, with a line that explains its columns."""
    header = ["mixer", "length", "prefill us", "one by one us", "state", "each token adds"]
    cells = [
        [
            each.mixer,
            str(each.length),
            f"{each.prefill_us:.1f}",
            f"{each.step_us:.1f}",
            human(each.state_bytes, "B"),
            human(each.token_bytes, "B"),
        ]
        for each in timings
    ]
    what = (
        f"One layer, {sizes.num_heads} heads x {sizes.head_dim}, no MLP, float32, {plural(sizes.batch, 'sequence')} at "
        f"once; fastest of {sizes.repeats} warm calls. prefill: per token, of all but the last {STEPS} tokens at once; "
        f"one by one: per token, of the last {STEPS}; state: bytes of the cache of a sequence of that length, and "
        "what a further token adds."
    )
    if style == "markdown":
        rule = ["---", *["---:"] * (len(header) - 1)]
        return "\n".join([*("| " + " | ".join(line) + " |" for line in (header, rule, *cells)), "", what])
    return f"{aligned([header, *cells])}\n\n{what}"


def _measure_at(runs: dict[str, Run], length: int, sizes: Sizes) -> list[Timing]:
    tokens = jax.random.randint(jax.random.key(0), (sizes.batch, length), 0, 16)
    rows, prompt = Rows.given(tokens), length - STEPS
    models = {name: _model(run) for name, run in runs.items()}
    decoders = {name: (Decoder(model, rows, prompt), rows) for name, model in models.items()}
    seconds = measures.take_turns(decoders, jax.random.key(0), sizes.repeats)
    found = []
    for name, taken in seconds.items():
        state = measures.kept(models[name], runs[name], length)
        prefill, step = (1e6 * each / sizes.batch for each in (taken.prefill / prompt, taken.step))
        found.append(
            Timing(name, length, prefill, step, sum(each.bytes for each in state), sum(each.grows for each in state))
        )
    return found


def _run(mixer: str, sizes: Sizes) -> Run:
    width = sizes.num_heads * sizes.head_dim
    model = ModelConfig(attention=mixer, model_dim=width, num_heads=sizes.num_heads)
    return Run.read(Config(task=_TASK, model=model))


def _model(run: Run) -> Model:
    return nnx.merge(*make_model(run))
