"""Which runs of a study are trained at once: each by itself, or those of one compiled program, a lane each.

The number of lanes, and which run has which lane, follow from the runs of the study alone, not from what is left to
do: the last bits of a run depend on them, and an interrupted run resumes with the same ones.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.config.run import Run
from experiments.studies.training_folder import TrainingFolder
from experiments.training.step import compiled_part


class Item(NamedTuple):
    """A run that a process is to train."""

    number: int  # in what is shown, from 1
    run: Run
    label: str
    folder: TrainingFolder

    @property
    def over(self) -> bool:
        """Whether no worker is to train the run, or to train it again."""
        return is_over(self.folder)


Lanes = Mapping[Run, int]  # how many lanes a program needs at most, by `compiled_part`
Batch = tuple[Item | None, ...]  # the lanes; None: its run is not to be trained, or not here


def is_over(folder: TrainingFolder) -> bool:
    """Whether no worker is to train the run of a folder, or to train it again."""
    return folder.ended() or folder.failed()


def cut(runs: Sequence[Run], together: bool) -> list[list[Run]]:
    """Returns groups of runs that are trained at once; each run is its own group unless `together` is set."""
    if not together:
        return [[run] for run in runs]
    groups: dict[Run, list[Run]] = {}
    for run in runs:
        groups.setdefault(compiled_part(run), []).append(run)
    return list(groups.values())


def lanes_of(group: Sequence[Run], lanes: Lanes | None) -> int:
    """Returns how many lanes a group is trained in: as many as its program needs in any stage, if few are empty.

    A group of one run is trained alone.
    """
    own = len(group)
    most = own if own == 1 or lanes is None else lanes[compiled_part(group[0])]
    return most if 2 * most <= 3 * own else own


def batches_of(runs: Sequence[Run], todo: Sequence[Item], lanes: Lanes | None) -> list[Batch]:
    """Returns the batches in which something is left to do.

    Args:
      runs: of the study, or of one of its stages.
      todo: those of them that are to be trained.
      lanes: see `lanes_of`; None: each run is trained alone.
    """
    items = {item.run.digests.run: item for item in todo}
    batches: list[Batch] = []
    for group in cut(runs, lanes is not None):
        empty = (None,) * (lanes_of(group, lanes) - len(group))
        batches.append((*(items.get(run.digests.run) for run in group), *empty))
    return [batch for batch in batches if any(batch)]


def only(batch: Batch, places: Sequence[int]) -> Batch:
    """Returns the batch with all but some of its lanes empty."""
    return tuple(item if place in places else None for place, item in enumerate(batch))


def left_of(batch: Batch) -> Batch:
    """Returns the batch without the runs that are over."""
    return tuple(None if item is None or item.over else item for item in batch)
