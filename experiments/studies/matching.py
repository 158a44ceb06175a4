"""Rows that spend the same: solves for a width, or the size of a variant, so that every row costs what the first does.

What is solved for is a *knob*: a width of the model, or the field that decides how much a variant sees or carries
(`AttentionVariant.size_field`, such as a window). A knob takes the value that comes nearest to the target. What a study
varies stays as it is, and so does a field that a spec spells out: `sliding_window` leaves its window open,
`sliding_window:window_size=16` does not. The solved values are part of a row's config, so it is a row like any other.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from attention_variants import specs
from attention_variants.registry import VARIANTS
from experiments.analysis import compute
from experiments.analysis.spending import QUANTITIES, TOLERANCE, matched
from experiments.components.attention import Attention
from experiments.config import schema, sections
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.studies.nearest import nearest
from experiments.studies.runner import cell_labels

_SAME = 0.002  # a row that is this near stays as it is
CLOSE = 0.02  # a width that comes this near is taken, and no further knob is tried; a size, within `TOLERANCE`
_SIZE = "size_field"  # stands for the field of a spec
_MLP, _WIDTH, _HEADS, _VALUES = "model.mlp_dim", "model.model_dim", "model.head_dim", "model.value_dim"
# The order in which knobs are tried. What a model sees and carries comes first where that is what is spent.
_KNOBS = {
    sections.PARAMS: (_MLP, _WIDTH, _HEADS, _VALUES),
    sections.STATE: (_SIZE, _HEADS, _VALUES, _WIDTH),
    sections.FLOPS: (_SIZE, _MLP, _WIDTH, _HEADS, _VALUES),
}
_LARGEST = 2**16  # value of a knob


class Knob(NamedTuple):
    """What can be solved for in one row."""

    name: str  # a key of the config, or a field of a spec
    start: int  # its value in the row as it is
    unit: int  # of which its values are multiples
    fields: Callable[[int], schema.Fields]  # that put a value into the config


class _Row(NamedTuple):
    """A row, solved as well as can be."""

    config: Config
    by: str  # "model.mlp_dim=60"; "" for a row as it was
    mismatch: float


def match(configs: Sequence[Config], varied: Sequence[str]) -> list[Config]:
    """Returns the configs of a study, solved so that all rows of a task spend equal amounts of what `match` names.

    The first row of a task stays as it is, and sets the target, unless `study.match_target` does. What each row was
    solved for and its target are in `study.match_by` and `study.match_target`. A row that cannot be read is left for
    whoever reads it next.

    Args:
      configs: of all runs; all have the same `match`.
      varied: the fields that the study varies, which stay as they are.

    Raises:
      ValueError: some row cannot come within `TOLERANCE`, or the fields of the matching are wrong; one line.
    """
    quantity = configs[0].match
    _check_fields(configs[0])
    targets: dict[str, int] = {}
    solved, rows = [], _Rows(quantity, varied)
    for config in configs:
        target = config.study.match_target or targets.get(config.task)
        if target is None:
            try:
                run = Run.read(config)
            except (ValueError, NotImplementedError):
                return list(configs)
            target = targets[config.task] = _spent(run, quantity)
        solved.append(rows.solve(config, target))
    _refuse_far(configs, solved)
    return [row.config for row in solved]


def records(runs: Sequence[Run]) -> list[tuple[str, dict[str, Any]]]:
    """Returns every model's label in a matched study and how close it is to its target; nothing for other studies."""
    models: dict[Any, tuple[Config, dict[str, Any]]] = {}
    for run in runs:
        key = run.config.task, run.model
        if key not in models and (record := matched(run)) is not None:
            models[key] = run.config, record
    by = {config.study.match_by for config, _ in models.values()} & schema.declared().keys()
    first = next((config.fields() for config, _ in models.values()), {})
    same = {key: first[key] for key in by}  # what was solved for has a column of its own
    labels = cell_labels([_changed(config, same) for config, _ in models.values()]) if models else []
    return [(label, record) for label, (_, record) in zip(labels, models.values(), strict=True)]


class _Rows:
    """Solves rows; those that differ only in what costs nothing are solved once."""

    def __init__(self, quantity: str, varied: Sequence[str]):
        self._quantity, self._varied = quantity, varied
        self._solved: dict[Any, tuple[schema.Fields, str, float]] = {}

    def solve(self, config: Config, target: int) -> _Row:
        """Returns the row that comes nearest, or near enough."""
        train = config.train if self._quantity == sections.FLOPS else None
        key = config.task, config.model, train and (train.steps, train.batch_size), target
        if key not in self._solved:
            self._solved[key] = self._search(config, target)
        fields, by, mismatch = self._solved[key]
        study = {"study.match_target": target, "study.match_by": by.partition("=")[0]}
        return _Row(Config.from_fields(config.fields() | fields | study), by, mismatch)

    def _search(self, config: Config, target: int) -> tuple[schema.Fields, str, float]:
        """Returns the fields to change, the change in words, and how far off the row then is."""
        error = functools.partial(_mismatch, self._quantity, target)
        as_it_is = error(config)
        if as_it_is is None or abs(as_it_is) <= _SAME:
            return {}, "", 0.0 if as_it_is is None else as_it_is
        best: tuple[schema.Fields, str, float] = ({}, "", as_it_is)
        for knob in _knobs(config, self._quantity, self._varied):

            def off_at(place: int, knob: Knob = knob) -> float | None:
                return error(_changed(config, knob.fields(place * knob.unit)))

            place, off = nearest(off_at, max(1, knob.start // knob.unit), _LARGEST // knob.unit)
            if off is not None and abs(off) < abs(best[2]):
                value = place * knob.unit
                best = knob.fields(value), f"{knob.name}={value}", off
            if abs(best[2]) <= (CLOSE if "." in knob.name else TOLERANCE):
                break
        return best


def _knobs(config: Config, quantity: str, varied: Sequence[str]) -> Iterator[Knob]:
    """Yields the knobs of a row, in the order in which they are tried."""
    wanted = config.study.match_by
    for name in _KNOBS[quantity]:
        if name in varied or (wanted and wanted in _KNOBS[quantity] and name != wanted):
            continue
        for knob in _of_specs(config) if name == _SIZE else _of_model(config, name):
            if not wanted or knob.name == wanted:
                yield knob


def _of_specs(config: Config) -> Iterator[Knob]:
    """Yields the size of every spec of the hybrid that leaves it open; equal specs share one knob."""
    parts = specs.split_layers(config.model.attention)
    for part, mixer in dict(zip(parts, Run.read(config).mixers, strict=True)).items():
        variant = mixer.variant if isinstance(mixer, Attention) else None
        field = variant.size_field if variant is not None else None
        if field is None or field in specs.parse_spec(part)[1]:
            continue

        def fields(value: int, part: str = part, field: str = field) -> schema.Fields:
            sized = f"{part}{',' if ':' in part else ':'}{field}={value}"
            return {"model.attention": "+".join(sized if each == part else each for each in parts)}

        yield Knob(field, getattr(variant, field), 1, fields)


def _of_model(config: Config, key: str) -> Iterator[Knob]:
    """Yields the knob of a width of the model, where the model has such a width and the config leaves it open."""
    run, given = Run.read(config), config.fields()[key]
    heads = next((sizes.heads for mixer, sizes in run.built if mixer.attends), None)
    if key in (_HEADS, _VALUES):
        if heads is None or given:  # a width that is given stays
            return
        start, least = (heads.head_dim if key == _HEADS else heads.value_dim), 1
    else:
        start, least = given, config.model.num_heads if key == _WIDTH and not config.model.head_dim else 1
    if not start:  # no MLP
        return
    for unit in (least, 2 * least, 4 * least, 8 * least):
        odd = (start // unit) | 1  # halves of a width, such as those that RoPE rotates, must stay whole
        if _is_valid(_changed(config, {key: odd * unit})):
            yield Knob(key, start, unit, lambda value: {key: value})
            return


def _check_fields(config: Config) -> None:
    """Raises ValueError for fields of the matching that name nothing."""
    config.check()
    by, quantity = config.study.match_by, config.match
    choices = set(_KNOBS[quantity]) - {_SIZE}
    if _SIZE in _KNOBS[quantity]:
        choices |= {kind.size_field for kind in VARIANTS.values() if kind.size_field is not None}
    if by and by not in choices:
        raise specs.SpecError(f"study.match_by: {specs.unknown(f'field to match {quantity} by', by, choices)}")


def _refuse_far(configs: Sequence[Config], rows: Sequence[_Row]) -> None:
    """Raises ValueError, in one line, if rows are too far off."""
    labels = cell_labels(configs)
    far = {label: row for label, row in zip(labels, rows, strict=True) if abs(row.mismatch) > TOLERANCE}
    if not far:
        return
    how = [
        f"{label} is {row.mismatch:+.1%} off {row.config.study.match_target:,} at the nearest "
        f"({row.by or 'nothing can be solved for'})"
        for label, row in far.items()
    ]
    target = "study.match_target" if configs[0].study.match_target else f"{labels[0]}, the first"
    raise ValueError(
        f"match={configs[0].match} cannot bring {len(far)} of {len(set(labels))} rows within "
        f"{TOLERANCE:.0%} of {target}: {'; '.join(how)}. Choose another first row, study.match_target or "
        "study.match_by."
    )


def _spent(run: Run, quantity: str) -> int:
    """Returns what the first row spends; raises ValueError where that is nothing."""
    spent = QUANTITIES[quantity](run)
    if not spent:
        raise ValueError(f"match={quantity}: {run.model.attention} spends none, so no row can be matched to it.")
    return spent


def _mismatch(quantity: str, target: int, config: Config) -> float | None:
    """Returns the share by which a row spends more than its target; None for an invalid row."""
    try:
        return QUANTITIES[quantity](Run.read(config)) / target - 1
    except (ValueError, NotImplementedError):
        return None


def _is_valid(config: Config) -> bool:
    """Whether a model can be built and its training step traced."""
    try:
        compute.step_flops(Run.read(config))
    except (ValueError, NotImplementedError):
        return False
    return True


def _changed(config: Config, fields: Mapping[str, Any]) -> Config:
    return Config.from_fields(config.fields() | dict(fields))
