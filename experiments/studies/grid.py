"""From a config and its grid to the configs of a study's runs."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from attention_variants import specs
from experiments.config import schema
from experiments.config.files import build
from experiments.config.schema import Config

MOST_RUNS = 100_000  # all of them are read before the first is trained


def expand(config: Config, vary: Sequence[str] = (), seeds: int | None = None) -> list[Config]:
    """Returns the configs of a study's runs: every cell of the grid at every seed.

    All cells of the first seed come first, so that an interrupted study already compares.

    Args:
      config: as from `load_config`.
      vary: replaces `study.vary` unless empty.
      seeds: replaces `study.seeds` if given.

    Raises:
      SpecError: a grid, a selection or a number of seeds that cannot be; one line.
    """
    vary, seeds = tuple(vary) or config.study.vary, config.study.seeds if seeds is None else seeds
    if seeds < 1:
        raise specs.SpecError(f"config: study.seeds must be an integer >= 1; got {seeds}.")
    grid = parse_vary(vary)
    runs = seeds * math.prod(map(len, grid.values()))
    if runs > MOST_RUNS:
        raise specs.SpecError(f"a study may have at most {MOST_RUNS} runs; this one has {runs}.")
    for key in config.study.select:
        known = schema.cell_fields(schema.declared())
        if key not in known:
            raise specs.SpecError(f"config: study.select: {schema.unknown_key(key, known)}")
    base = config.fields() | {"study.vary": vary, "study.seeds": seeds}
    return [
        build(base | dict(zip(grid, values, strict=True)) | {"seed": config.seed + seed}, "--vary")
        for seed, values in itertools.product(range(seeds), itertools.product(*grid.values()))
    ]


def shard(configs: list[Config], part: str | None) -> list[Config]:
    """Returns every n-th config from the i-th on, for a `part` "i/n"; all of them for None.

    The parts share no config, have all of them together, and are as long as each other but for one.

    Raises:
      SpecError: `part` is not of that form, or has no config; one line.
    """
    if part is None:
        return configs
    index, slash, number = part.partition("/")
    if not (slash and index.strip().isdecimal() and number.strip().isdecimal()) or int(index) >= int(number):
        raise specs.SpecError(f"--shard must be i/n with 0 <= i < n, such as 0/3; got {part!r}.")
    chosen = configs[int(index) :: int(number)]
    if not chosen:
        raise specs.SpecError(f"--shard={part} has no run; the study has {len(configs)}.")
    return chosen


def parse_vary(vary: Sequence[str]) -> dict[str, list[Any]]:
    """Returns {key: values} of a grid written as `a.b=x|y|z` each; raises SpecError."""
    grid: dict[str, list[Any]] = {}
    for item in vary:
        key, equals, alternatives = (part.strip() for part in item.partition("="))
        if not equals or not key:
            raise specs.SpecError(f"--vary must be like 'model.attention=full|linear'; got {item!r}.")
        if key.split(".")[0] in (*schema.OF_THE_STUDY, "seed"):
            hint = "use --seeds" if key == "seed" else "vary a field of the model, the task or the training"
            raise specs.SpecError(f"--vary cannot vary {key!r}; {hint}.")
        if key in grid:
            raise specs.SpecError(f"--vary gives {key!r} twice; put all alternatives into one, between '|'.")
        grid[key] = _alternatives(key, alternatives)
    return grid


def check_selected(select: Sequence[str], vary: Sequence[str]) -> None:
    """Raises SpecError for a field to be selected that `vary` does not vary."""
    varied, known = [item.partition("=")[0].strip() for item in vary], schema.declared()
    for key in filter(None, select):
        if key not in known:
            raise specs.SpecError(f"--select: {schema.unknown_key(key, known)}")
        if key not in varied:
            raise specs.SpecError(f"--select: {key!r} is not varied; varied fields: {', '.join(varied) or '(none)'}.")


def _alternatives(key: str, text: str) -> list[Any]:
    values: list[Any] = []
    for word in (word.strip() for word in text.split("|")):
        if not word:
            raise specs.SpecError(f"--vary: {key}={text} has an empty alternative.")
        try:
            value = schema.read_value(key, word)
        except specs.SpecError as error:
            raise specs.SpecError(f"--vary: {error}") from error
        if value in values:
            raise specs.SpecError(f"--vary gives {key}={word} twice.")
        values.append(value)
    return values
