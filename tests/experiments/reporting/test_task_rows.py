"""Pictures of rows: on a terminal, in a file, and what they must show."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from experiments import show_task
from experiments.reporting import pictures
from experiments.tasks.base import Batch, Task
from experiments.tasks.registry import make_task
from tests.experiments.test_show_task import execute

PICTURED = {"pathfinder:side=16": 16, "image_shapes:grid_size=3": 24, "captioning:grid_size=3": 24}  # pixels


@functools.cache
def draw(spec: str) -> tuple[Task, Batch]:
    task = make_task(spec)
    return task, jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(0), 3))


@pytest.mark.parametrize("spec", PICTURED)
def test_pictures_fit_the_terminal(spec: str):
    task, batch = draw(spec)
    side, image = PICTURED[spec], task.image(batch, 1)
    assert image.shape == (side, side, 3) and image.dtype == np.uint8
    assert (image > 120).any() and not np.array_equal(image, task.image(batch, 2))
    for width in (side // 2, 2 * side):
        lines = pictures.text_lines(image, width)
        assert {len(line) for line in lines} == {width}
        shown = [line.plain for line in show_task.row_lines(task, batch, 1, width)]
        assert [line.plain for line in lines] == shown[task.context is not None :][: len(lines)]
        assert shown[-1].startswith("  at ")


def test_a_file_of_pictures(tmp_path: pathlib.Path, monkeypatch, capsys):
    path = tmp_path / "rows.svg"
    assert execute(monkeypatch, "--task=pathfinder:side=16", "--rows=3", f"--output={path}") == 0
    assert capsys.readouterr().out == f"wrote {path}\n" and path.read_text().count("<image") == 3
    figure = pictures.draw(*draw("captioning:grid_size=3"))
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes]
    task, batch = draw("captioning:grid_size=3")
    assert titles == [" ".join(task.token_text(token) for token in row) for row in batch.targets]


MISTAKES = {
    ("--task=induction", "rows.png"): "rows of Induction are no pictures",
    ("--task=pathfinder:side=16", "rows.gif"): "must end with .png or .svg",
}


@pytest.mark.parametrize(("task", "name"), MISTAKES)
def test_what_cannot_be_written_is_one_line(task: str, name: str, tmp_path: pathlib.Path, monkeypatch, capsys):
    assert execute(monkeypatch, task, f"--output={tmp_path / name}") == 2
    err = capsys.readouterr().err
    assert MISTAKES[task, name] in err and err.count("\n") == 1 and not list(tmp_path.iterdir())
