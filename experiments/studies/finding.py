"""What to say about a path that is not the requested study, and where studies are instead."""

from collections.abc import Iterator
from pathlib import Path

from attention_variants import specs
from experiments.studies.archive import ARCHIVE
from experiments.studies.run_folder import CONFIG, open_study

_MOST = 5  # studies in a message
_LEVELS = 3  # folders that are searched: more would be slow in a full home folder


def check_study(path: Path) -> None:
    """Raises ValueError, in one line, if a path is not a folder, or is a run of a study."""
    if path.is_file():
        such = f", such as {str(path.parent)!r}" if _is_study(path.parent) else studies_near(path)
        raise ValueError(f"{str(path)!r} is a file; name the folder of a study{such}.")
    if not path.is_dir():
        raise ValueError(f"there is no folder {str(path)!r}{studies_near(path)}.")
    if (path / CONFIG).is_file():
        raise ValueError(f"{str(path)!r} is a run; its study is {str(path.parent)!r}.")


def studies_near(path: Path) -> str:
    """Names studies in the folder `path`, or else in the nearest existing folders above it; the most similar first."""
    for folder in [folder for folder in (path, *path.parents) if folder.is_dir()][:_LEVELS]:
        found = {str(study): study.name for study in _studies(folder) if study != path}
        if found:
            order = specs.nearest_first(path.name, set(found.values()))
            nearest = sorted(found, key=lambda study: (order.index(found[study]), study))
            return f"; studies near: {specs.listed(nearest, _MOST)}"
    return ""


def _studies(folder: Path) -> Iterator[Path]:
    """Yields the studies in a folder, or in a subfolder that is not itself a study."""
    for inside in _folders(folder):
        if _is_study(inside):
            yield inside
        else:
            yield from (study for study in _folders(inside) if _is_study(study))


def _folders(folder: Path) -> list[Path]:
    if folder == folder.parent and folder.is_absolute():
        return []  # the root is nobody's folder of results
    try:
        return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []


def _is_study(folder: Path) -> bool:
    try:
        return (folder / ARCHIVE).is_file() or bool(open_study(folder))
    except OSError:
        return False
