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
from experiments.reporting.text import human, plural, table

FLAT = 0.2  # share by which the time of a token may change and still count as flat
STEPS = 64  # tokens that are decoded one by one, the last of the row
MIXERS = (*(name for name in contenders(None, causal=True) if name != "jax.nn"), *registry.MIXERS)
_TASK = "copying:length=16"  # gives the vocabulary; rows of any length are decoded


@dataclasses.dataclass
class Timing:
    """One mixer at one length; times are those of the fastest call."""

    mixer: str
    length: int
    prefill_us: float  # microseconds per token of one sequence, for all but the last tokens at once
    step_us: float  # microseconds per token of one sequence, for the last tokens one by one
    state_bytes: int  # of one sequence of that length
    token_bytes: float  # added by each further token, up to twice the length
    step_growth: float | None = None  # time of a step over that at the shortest length; None there

    @property
    def bounded(self) -> bool:
        """Whether the state is as large as it gets."""
        return not self.token_bytes


def measure(mixers: Sequence[str], lengths: Sequence[int], sizes: Sizes) -> Iterator[Timing]:
    """Measures every mixer at every length, lengths ascending, and yields the timings of each length together.

    A mixer whose prompt takes longer than `sizes.longest_call` is left out at greater lengths.

    Raises:
      ValueError: a length leaves no prompt, or a spec is wrong; one line.
      NotImplementedError: a mixer cannot be causal.
    """
    if lengths[0] <= STEPS:
        raise ValueError(f"--lengths must be above {STEPS}, the tokens that are decoded one by one; got {lengths[0]}.")
    runs = {name.strip(): _run(name.strip(), sizes) for name in mixers}
    shortest: dict[str, float] = {}
    for length in lengths:
        for each in _measure_at(runs, length, sizes):
            if sizes.longest_call is not None and each.prefill_us * length * sizes.batch > 1e6 * sizes.longest_call:
                del runs[each.mixer]
            if each.mixer in shortest:
                each.step_growth = each.step_us / shortest[each.mixer]
            shortest.setdefault(each.mixer, each.step_us)
            yield each


def render(timings: Sequence[Timing], style: str, sizes: Sizes) -> str:
    """Returns the timings as aligned text or as a Markdown table, with a line that explains its columns."""
    header = ["mixer", "length", "prefill us", "one by one us", "one by one x", "state", "each token adds"]
    cells = [
        [
            each.mixer,
            str(each.length),
            f"{each.prefill_us:.1f}",
            f"{each.step_us:.1f}",
            "" if each.step_growth is None else f"{each.step_growth:.2f}",
            human(each.state_bytes, "B"),
            human(each.token_bytes, "B"),
        ]
        for each in timings
    ]
    limit = "" if sizes.longest_call is None else f", no longer once a prompt took {sizes.longest_call:g} s"
    what = (
        f"One layer, {sizes.num_heads} heads x {sizes.head_dim}, no MLP, float32, {plural(sizes.batch, 'sequence')} at "
        f"once; fastest of {sizes.repeats} warm calls{limit}. prefill: per token, of all but the last {STEPS} tokens "
        f"at once; one by one: per token, of the last {STEPS}; one by one x: over the shortest length; state: bytes of "
        "the cache of a sequence of that length, and what a further token adds."
    )
    return "\n\n".join([table([header, *cells], style), what, *_flatness(timings)])


def _flatness(timings: Sequence[Timing]) -> list[str]:
    """Returns a line on how flat the time of a token is where the state is bounded; none for a single length."""
    shortest, longest = (end((each.length for each in timings), default=0) for end in (min, max))
    bounded = {each.mixer: each.step_growth or 0.0 for each in timings if each.length == longest and each.bounded}
    if not bounded or shortest == longest:
        return []
    low, high = min(bounded, key=bounded.__getitem__), max(bounded, key=bounded.__getitem__)
    flat = sum(abs(ratio - 1) <= FLAT for ratio in bounded.values())
    return [
        f"From {shortest} to {longest} tokens of context, where the state is bounded, the time of a token changes by "
        f"{bounded[low] - 1:+.0%} ({low}) to {bounded[high] - 1:+.0%} ({high}); by at most {FLAT:.0%} for {flat} of "
        f"{len(bounded)}."
    ]


def _measure_at(runs: dict[str, Run], length: int, sizes: Sizes) -> list[Timing]:
    if not runs:
        return []
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
