"""Numbers, specs and environments as people read them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.studies.record import devices_text

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def human(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Returns a number as people read it: 1234567 -> "1.23M", of bytes "1.23 MB"; "-" for None and infinity."""
    if value is None or value in (float("inf"), float("-inf")):
        return "-"
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor * 0.9995:
            return f"{_significant(value / factor, digits)}{' ' * bool(unit)}{prefix}{unit}"
    return f"{_significant(value, digits)} {unit}".rstrip()


def rate(value: float | None) -> str:
    """Returns an accuracy with three decimals, "-" for None."""
    return "-" if value is None else f"{value:.3f}"


def setting(value: Any) -> str:
    """Returns the value of a config field."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def plural(count: int, noun: str) -> str:
    """Returns a number of things: "1 run", "2 runs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(items: Iterable[str]) -> str:
    """Returns "a, b and c"."""
    *head, last = items
    return f"{', '.join(head)} and {last}" if head else last


def one_line(text: str) -> str:
    """Returns `text` with every run of white space as one blank."""
    return " ".join(text.split())


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Returns lines of cells in columns, the first `left` of them flush left and the others flush right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def table(lines: Sequence[Sequence[str]], style: str, left: int = 1) -> str:
    """Returns lines of cells, the header first, as a "markdown" table or as `aligned` text."""
    if style == "markdown":
        rule = ["---"] * left + ["---:"] * (len(lines[0]) - left)
        return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))
    return aligned(lines, left)


def wrap_spec(spec: str, width: int) -> list[str]:
    """Breaks a spec after '+', ':' and ',' into lines of at most `width` where that is possible."""
    pieces = spec.replace("+", "+\0").replace(":", ":\0").replace(",", ",\0").split("\0")
    lines = [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("  ")
        lines[-1] += piece
    return lines


def describe_environment(environment: Mapping[str, Any]) -> str:
    """Returns devices, cores, versions and flags on one line."""
    versions = [f"{name} {environment[name]}" for name in ("jax", "python") if name in environment]
    flags = [f"{name}={value}" for name, value in environment.get("flags", {}).items()]
    processes = [f"{environment['processes']} processes"] if "processes" in environment else []
    cores = environment.get("cores", "?")
    device = f"{devices_text(environment) or 'unknown device'}, {cores} {'core' if cores == 1 else 'cores'}"
    lanes = [f"{environment['vmap_seeds']} runs at once"] if "vmap_seeds" in environment else []
    return ", ".join([device, *processes, *lanes, *versions, *flags])


def _significant(value: float, digits: int) -> str:
    """Returns a number with this many significant digits and no exponent: 0.01234 -> "0.0123"."""
    text = f"{value:#.{digits}g}".rstrip(".")
    return f"{value:.0f}" if "e+" in text or float(value).is_integer() and abs(value) < 1000 else text
