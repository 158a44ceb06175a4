"""Rows of tasks, in tokens and as images: everything that is asked for and everything it depends on is shown."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from experiments.reporting import task_rows
from experiments.tasks.base import Batch, Task
from experiments.tasks.registry import TASKS, make_task

IMAGES = {"pathfinder:side=16": 16, "image_shapes:grid_size=3": 24, "captioning:grid_size=3": 24}  # pixels


@functools.cache
def draw(spec: str) -> tuple[Task, Batch]:
    task = make_task(spec)
    return task, task_rows.draw_rows(task, 3, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TASKS.keys() - {"pathfinder", "image_shapes"}))  # these are images
def test_every_token_of_every_task_is_shown(name: str):
    task, batch = draw(name)
    for width in (20, 77):
        lines = [line.plain for line in task_rows.row_lines(task, batch, 1, width)]
        scored = int(batch.weights[1].sum())
        cells = " ".join(line.partition(": ")[2] for line in lines[:-scored]).split()
        texts = [text.strip("[]?") for text, _ in (*task.describe_context(batch, 1), *task.describe_row(batch, 1))]
        assert [cell.strip("[]?") for cell in cells] == texts
        if not task.input_channels:
            assert texts[-task.input_length :] == [task.token_text(token).strip("[]?") for token in batch.inputs[1]]
        asked = np.unique(batch.positions[1][batch.weights[1] > 0])
        assert sum(cell.strip("[]").endswith("?") for cell in cells) == len(asked)
        evidence = batch.evidence[1][batch.weights[1] > 0]
        marked = sum(cell.startswith("[") and cell.endswith("]") for cell in cells)
        assert marked == len(np.unique(evidence[evidence >= 0]))


@pytest.mark.parametrize("spec", IMAGES)
def test_images_fit_the_terminal(spec: str):
    task, batch = draw(spec)
    side, image = IMAGES[spec], task.image(batch, 1)
    assert image.shape == (side, side, 3) and image.dtype == np.uint8
    assert (image > 120).any() and not np.array_equal(image, task.image(batch, 2))
    for width in (side // 2, 2 * side):
        lines = task_rows.image_lines(image, width)
        assert {len(line) for line in lines} == {width}
        shown = [line.plain for line in task_rows.row_lines(task, batch, 1, width)]
        assert [line.plain for line in lines] == shown[task.context is not None :][: len(lines)]
        assert shown[-1].startswith("  at ")


def test_a_file_of_images_has_every_row_below_its_answer(tmp_path: pathlib.Path):
    task, batch = draw("captioning:grid_size=3")
    titles = [axes.get_title().replace("\n", " ") for axes in task_rows.draw_images(task, batch).axes]
    assert titles == [" ".join(task.token_text(token) for token in row) for row in batch.targets]
    task_rows.write_images(task, batch, tmp_path / "rows.svg")
    assert (tmp_path / "rows.svg").read_text().count("<image") == 3


def test_the_same_seed_draws_the_same_rows():
    task, batch = draw("mqar:length=32,num_pairs=4")
    assert jax.tree.all(jax.tree.map(np.array_equal, batch, task_rows.draw_rows(task, 3, 0)))
    assert not np.array_equal(batch.inputs, task_rows.draw_rows(task, 3, 1).inputs)


MISTAKES = {
    ("induction", "rows.png"): "rows of Induction are not images",
    ("pathfinder:side=16", "rows.gif"): "must end with .png or .svg",
}


@pytest.mark.parametrize(("spec", "name"), MISTAKES)
def test_what_cannot_be_written_is_refused(spec: str, name: str, tmp_path: pathlib.Path):
    with pytest.raises(ValueError, match=MISTAKES[spec, name]):
        task_rows.write_images(*draw(spec), tmp_path / name)
    assert not list(tmp_path.iterdir())
