"""From runs to cells: which runs differ in their seed alone, and which cell is chosen by validation accuracy."""

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.studies.record import Record

STUDY = "study"  # the key by which cells of several studies differ


class Chosen(NamedTuple):
    """A cell that was chosen by validation accuracy."""

    cell: list[Record]  # the reported runs; those that only choose, as long as there are no others
    tried: list[list[Record]]  # the cells it was chosen from, itself included
    studies: list[str]  # in which it was chosen, where there are several

    @property
    def flat(self) -> dict[str, Any]:
        """What the runs of the cell share; if a manifest is lost, the version comes from another run."""
        versions = [record.flat["version"] for record in self.cell if record.flat["version"] is not None]
        known = {"version": versions[0]} if versions else {}
        return self.cell[0].flat | known | ({STUDY: ", ".join(self.studies)} if self.studies else {})


def pooled(studies: Mapping[str, Sequence[Record]]) -> tuple[list[Record], int]:
    """Returns every run once, with the names of all studies that have it, and how many runs differ between studies.

    A run of several studies is taken from the first one in which it has ended.
    """
    every = [(name, record) for name, records in studies.items() for record in records]
    runs: dict[tuple[str, Any], list[tuple[str, Record]]] = {}
    for key, named in zip(_cell_keys([record for _, record in every]), every, strict=True):
        runs.setdefault((key, named[1].config.get("seed")), []).append(named)
    found, differing = [], 0
    for same in runs.values():
        ended = [record for _, record in same if record.ended]
        differing += len({_scores(record) for record in ended}) > 1
        kept = next(iter(ended), same[0][1])
        found.append(dataclasses.replace(kept, studies=tuple(dict.fromkeys(name for name, _ in same))))
    return found, differing


def _scores(record: Record) -> tuple[Any, ...]:
    result = record.result or {}
    return tuple(result.get(name) for name in ("status", "test_accuracy", "test_loss", "steps_to_solve"))


def _cell_keys(records: Sequence[Record]) -> list[str]:
    """Returns what identifies the cell of each run.

    Runs of one cell share the digest "cell" of their results, however their specs are spelled. Runs without a digest
    belong to the cell of the runs with the same config.
    """
    written = [json.dumps(record.flat, sort_keys=True) for record in records]
    results = [record.result or {} for record in records]
    digests = {text: result["cell"] for text, result in zip(written, results, strict=True) if "cell" in result}
    return [digests.get(text, text) for text in written]


def group(records: Sequence[Record]) -> list[list[Record]]:
    """Returns the runs of each cell by seed."""
    cells: dict[str, list[Record]] = {}
    keyed = zip(_cell_keys(records), records, strict=True)
    for key, record in sorted(keyed, key=lambda pair: pair[1].config.get("seed", 0)):
        cells.setdefault(key, []).append(record)
    return list(cells.values())


def select_in_each(names: Sequence[str], cells: list[list[Record]], selects: Sequence[str]) -> list[Chosen]:
    """Returns the cells that are chosen in any of the studies; the runs of a cell count whichever study has them."""
    found: dict[int, Chosen] = {}  # by the identity of cells
    for name in names:
        own = [cell for cell in cells if len(names) == 1 or any(name in record.studies for record in cell)]
        for cell, tried in _select(own, selects, name if len(names) > 1 else None):
            before = found.get(id(cell), Chosen(_reported(cell), [], []))
            more = [other for other in tried if not any(other is known for known in before.tried)]
            found[id(cell)] = Chosen(before.cell, [*before.tried, *more], [*before.studies, name])
    several = len(names) > 1
    return [chosen if several else chosen._replace(studies=[]) for chosen in found.values()]


def _select(
    cells: list[list[Record]], selects: Sequence[str], study: str | None
) -> list[tuple[list[Record], list[list[Record]]]]:
    """Returns, for each group of cells that differ only in `selects`, the best by validation and the group."""
    groups: dict[str, list[list[Record]]] = {}
    for cell in cells:
        group = json.dumps({key: value for key, value in cell[0].flat.items() if key not in selects}, sort_keys=True)
        groups.setdefault(group, []).append(cell)
    found = []
    for tried in groups.values():
        searched = [cell for cell in tried if any(_chooses(record, study) for record in cell)] or tried
        found.append((max(searched, key=lambda cell: validation(cell, study)), tried))
    return found


def _chooses(record: Record, study: str | None) -> bool:
    """Whether a run only chooses, and does so in this study; None: there is one."""
    return record.searches and (study is None or study in record.studies)


def _reported(cell: list[Record]) -> list[Record]:
    return [record for record in cell if not record.searches] or cell


def validation(cell: list[Record], study: str | None = None) -> tuple[float, float]:
    """Orders cells by `validation_of` the runs that only choose or, if there are none, of the reported runs."""
    chooses = [record for record in cell if _chooses(record, study)] or _reported(cell)
    return validation_of([record.result for record in chooses if record.result])


def validation_of(results: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Orders cells by mean validation accuracy, and ties, such as cells that all reach 1, by mean loss."""
    accuracy = statistics.fmean(result["validation_accuracy"] or 0.0 for result in results)
    losses = [result.get("validation_loss") for result in results]
    return accuracy, -statistics.fmean(math.inf if loss is None else loss for loss in losses)
