"""The pictures of a study as files."""

from pathlib import Path

from experiments.reporting.figures import registry
from experiments.reporting.figures.style import save, style
from experiments.studies.results import Study
from experiments.studies.whole_files import write_file


def write_pictures(study: Study, folder: str | Path) -> dict[str, bytes]:
    """Writes every picture of a study to `folder`, as PNG and SVG; returns the SVG files by name of the picture.

    Raises:
      StorageError: the files cannot be written.
    """
    found = {}
    with style():
        for name, picture in registry.pictures(study).items():
            figure = picture.draw(study)
            if figure is None:
                continue
            for kind in ("png", "svg"):
                content = save(figure, kind)
                write_file(Path(folder) / f"{name}.{kind}", content)
            found[name] = content
    return found
