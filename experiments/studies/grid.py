"""From a config, its sweep and its grid to the configs of a study's runs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from attention_variants import specs
from experiments.config import schema, sections
from experiments.config.files import build, check_varied
from experiments.config.schema import Config
from experiments.config.sections import FIRST_SEARCH_SEED
from experiments.studies.ranges import Range, read_range

MOST_RUNS = 100_000  # all of them are read before the first is trained

Axis = list[dict[str, Any]]  # its points; each sets one field or, where values are drawn together, several


def expand(
    config: Config, vary: Sequence[str] = (), seeds: int | None = None, sweep: Sequence[Mapping[str, Any]] = ()
) -> list[Config]:
    """Returns the configs of a study's runs: every cell of the sweep and of the grid at every seed.

    All cells of the first seed come first, so that an interrupted study can already compare. If `study.search_seeds`
    choose among cells, their runs come before all others (see `search.py`). If `match` says so, all rows spend the
    same (see `matching.py`).

    Args:
      config: as from `load_config`.
      vary: replaces `study.vary` and the sweep unless empty.
      seeds: replaces `study.seeds` if given.
      sweep: what the cells of the config file's sweep set; each is crossed with the grid.

    Raises:
      SpecError: an invalid grid, selection or number of seeds; one line.
      ValueError: rows that cannot be matched; one line.
    """
    varied, sweep = varied_fields(config, vary, sweep), () if vary else sweep
    vary, seeds = tuple(vary) or config.study.vary, config.study.seeds if seeds is None else seeds
    if seeds < 1:
        raise specs.SpecError(f"config: study.seeds must be an integer >= 1; got {seeds}.")
    axes = ([list(map(dict, sweep))] if sweep else []) + parse_vary(vary)
    _check_axes(sweep, vary)
    searched = _seeds_that_choose(config, seeds, varied)
    # `len` takes no range of more than 2^63.
    runs = (searched.stop - searched.start + seeds) * math.prod(map(len, axes))
    if runs > MOST_RUNS:
        raise specs.SpecError(f"a study may have at most {MOST_RUNS} runs; this one has {runs}.")
    for key in config.study.select:
        known = schema.cell_fields(schema.declared())
        if key not in known:
            raise specs.SpecError(f"config: study.select: {schema.unknown_key(key, known)}")
    base = config.fields() | {"study.vary": vary, "study.seeds": seeds}
    configs = [
        build(base | dict(itertools.chain(*map(dict.items, cell))) | {"seed": config.seed + seed}, "--vary")
        for seed, cell in itertools.product([*searched, *range(seeds)], itertools.product(*axes))
    ]
    if config.match == sections.NONE:
        return configs
    from experiments.studies import matching  # builds and traces models, which a grid does not

    return matching.match(configs, varied)


def _seeds_that_choose(config: Config, seeds: int, varied: Sequence[str]) -> range:
    """Returns the seeds that only choose: none if no selected field is varied.

    Raises:
      SpecError: nothing is ever chosen, or such a seed is reported as well.
    """
    if config.study.search_seeds and not config.study.select:
        raise specs.SpecError("config: study.search_seeds choose nothing without study.select.")
    if config.study.search_seeds and (last := config.seed + seeds - 1) >= FIRST_SEARCH_SEED:
        raise specs.SpecError(
            f"config: beside study.search_seeds, seeds must be below {FIRST_SEARCH_SEED}; got {last}."
        )
    number = config.study.search_seeds if set(config.study.select) & set(varied) else 0
    return range(FIRST_SEARCH_SEED, FIRST_SEARCH_SEED + number)


def varied_fields(config: Config, vary: Sequence[str], sweep: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys that a study varies, see `expand`."""
    swept = () if vary else sweep
    return [*dict.fromkeys(key for cell in swept for key in cell), *map(_key, vary or config.study.vary)]


def _check_axes(sweep: Sequence[Mapping[str, Any]], vary: Sequence[str]) -> None:
    for key in dict.fromkeys(key for cell in sweep for key in cell):
        if key in map(_key, vary):
            raise specs.SpecError(f"{key} is set by sweep(add) and varied by study.vary; leave it to one of them.")


def shard(configs: list[Config], part: str | None) -> list[Config]:
    """Returns every n-th config from the i-th on, for a `part` "i/n"; all of them for None.

    The parts share no config, together contain all of them, and differ in length by at most one.

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


def parse_vary(vary: Sequence[str]) -> list[Axis]:
    """Returns the axes of a grid, each written as `a.b=x|y|z`; a range may stand for values (see `ranges`).

    Drawn values of several fields form one axis together, as in random search: its first point is the first draw of
    each field, and so on.

    Raises:
      SpecError: the text has another form; one line.
    """
    axes: dict[str, Axis] = {}
    drawn: dict[str, Axis] = {}
    for item in vary:
        key, equals, alternatives = (part.strip() for part in item.partition("="))
        if not equals or not key:
            raise specs.SpecError(f"--vary must be like 'model.attention=full|linear'; got {item!r}.")
        try:
            check_varied(key)
        except specs.SpecError as error:
            raise specs.SpecError(f"--vary {error}") from error
        if key in axes:
            raise specs.SpecError(f"--vary gives {key!r} twice; put all alternatives into one, between '|'.")
        values, random = _alternatives(key, alternatives)
        axes[key] = [{key: value} for value in values]
        if random:
            drawn[key] = axes[key]
    if len({len(axis) for axis in drawn.values()}) > 1:
        numbers = ", ".join(f"{key} {len(axis)}" for key, axis in drawn.items())
        raise specs.SpecError(f"--vary draws values together, so there must be as many of each; got {numbers}.")
    together = [dict(itertools.chain(*map(dict.items, point))) for point in zip(*drawn.values(), strict=True)]
    return [axis for key, axis in axes.items() if key not in drawn] + ([together] if together else [])


def check_selected(select: Sequence[str], varied: Sequence[str]) -> None:
    """Raises SpecError if a field to be selected is not among those `varied`."""
    known = schema.declared()
    for key in filter(None, select):
        if key not in known:
            raise specs.SpecError(f"--select: {schema.unknown_key(key, known)}")
        if key not in varied:
            raise specs.SpecError(f"--select: {key!r} is not varied; varied fields: {', '.join(varied) or '(none)'}.")


def _key(item: str) -> str:
    return item.partition("=")[0].strip()


def _alternatives(key: str, text: str) -> tuple[list[Any], bool]:
    """Returns the alternatives of a field, and whether they are drawn."""
    values: list[Any] = []
    words = [word.strip() for word in text.split("|")]
    for word in words:
        if not word:
            raise specs.SpecError(f"--vary: {key}={text} has an empty alternative.")
        try:
            found = _values(key, word)
        except specs.SpecError as error:
            raise specs.SpecError(f"--vary: {error}") from error
        if found.drawn and len(words) > 1:
            raise specs.SpecError(f"--vary: {key}={word} draws its values and must stand alone; got {text!r}.")
        for value in found.values:
            if value in values and not found.drawn:
                raise specs.SpecError(f"--vary gives {key}={value if len(found.values) > 1 else word} twice.")
            values.append(value)
    return values, found.drawn


def _values(key: str, word: str) -> Range:
    """Returns the values that one alternative stands for."""
    known = schema.declared()
    found = read_range(key, type(known[key].default), word) if key in known else None
    return found or Range([schema.read_value(key, word)], drawn=False)
