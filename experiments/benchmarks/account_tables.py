"""The tables and the JSON of `experiments.account`."""

from collections.abc import Sequence
from typing import Any

from attention_variants.cost import Work
from experiments.analysis.accounting import Pass
from experiments.benchmarks.accounting import Measured
from experiments.benchmarks.roofline import Machine
from experiments.reporting.text import human, table

_CHOOSING = [name for name in Work._fields if name != "flops"]
_NOTES = (
    "FLOPs: of matrix products, executed; ideal: of permitted pairs, or a recurrence token by token. sort, top_k and "
    "argmax (the buckets of a hash, the likeliest answer): comparisons; gather and scatter: elements read and written "
    "by index. None of them is in the FLOPs.",
    "Tokens: that a pass reads; forward and training step have a batch, prefill a row, decode the last token of a row. "
    "The optimizer is timed and not counted.",
    "State: bytes of the decoding cache at the end of a row, integers too, and what a further token adds. Activations: "
    "what the backward pass reads; temporaries and peak: of a training step, by XLA's memory analysis.",
)


def render(measured: Sequence[Measured], machine: Machine | None, style: str) -> str:
    """Returns both tables, as aligned text or in Markdown, and what their columns mean."""
    clock = ["ms", "tokens/s", "of matmul", "of memory"] if machine else []
    work = [["model", "pass", "tokens", "FLOPs", "ideal", *_CHOOSING, *clock]]
    work += [_work(each, counted) for each in measured for counted in each.account.passes]
    held = [["model", "parameters", "state", "a token adds", "activations", "temporaries", "peak"]]
    held += [_held(each) for each in measured]
    notes = [*_NOTES, *([_machine(machine)] if machine else [])]
    return "\n\n".join([table(work, style, 2), table(held, style), "\n".join(notes)])


def plain(measured: Sequence[Measured], machine: Machine | None) -> dict[str, Any]:
    """Returns all numbers as plain values: seconds, bytes, FLOPs, comparisons and elements."""
    return {
        "machine": None if machine is None else machine._asdict(),
        "models": [
            {
                "model": each.name,
                "task": each.task,
                "memory": each.account.memory._asdict() | {"temporaries": each.temporaries, "peak": each.peak},
                "passes": {counted.name: _plain(each, counted) for counted in each.account.passes},
            }
            for each in measured
        ],
    }


def _plain(each: Measured, counted: Pass) -> dict[str, Any]:
    found = {"rows": counted.rows, "tokens": counted.tokens, **counted.work._asdict(), "ideal": counted.ideal_flops}
    timed = each.times.get(counted.name)
    if timed is None:
        return found
    return found | {"seconds": timed.seconds, "tokens_per_second": timed.tokens_per_second, **timed.share._asdict()}


def _work(each: Measured, counted: Pass) -> list[str]:
    flops = [human(counted.work.flops), human(counted.ideal_flops)]
    chosen = [human(getattr(counted.work, kind)) for kind in _CHOOSING]
    line = [each.name, counted.name, f"{counted.tokens:,}", *flops, *chosen]
    timed = each.times.get(counted.name)
    if timed is None:
        return line
    share = [f"{part:.1%}" if part else "-" for part in timed.share]
    return [*line, f"{1e3 * timed.seconds:.3g}", human(timed.tokens_per_second), *share]


def _held(each: Measured) -> list[str]:
    memory = each.account.memory
    sizes = (memory.params, memory.cache, memory.cache_grows, memory.activations, each.temporaries, each.peak)
    return [each.name, *(human(size, "B") for size in sizes)]


def _machine(machine: Machine) -> str:
    return (
        f"Of matmul and of memory: shares of {human(machine.matmul_flops)}FLOP/s, those of one large product, and of "
        f"{human(machine.bandwidth)}B/s, those of a large array that is read and written; both measured here. What a "
        "pass takes to and from memory is counted at the least; above 100 % it stays in caches."
    )
