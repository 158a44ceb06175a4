"""Whatever becomes of a file in a run folder is said, or changes nothing that is shown."""

import dataclasses
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from experiments.config.run import Run
from experiments.reporting import html, tables
from experiments.studies.mending import mend
from experiments.studies.results import read_study
from experiments.studies.run_folder import RunFolder
from experiments.studies.runner import run_folder, run_study
from tests.experiments.tiny import tiny_config

FLIPS = 200  # of one bit, for each file
SPECS = ("conv+full", "conv+linear")


def flipped(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def line_lost(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


DAMAGES: dict[str, tuple[int, Callable[[bytes, random.Random], bytes | None]]] = {
    "flipped": (FLIPS, flipped),
    "truncated": (20, lambda content, rng: content[: rng.randrange(len(content))]),
    "line lost": (10, line_lost),
    "doubled": (1, lambda content, rng: content + content),
    "emptied": (1, lambda content, rng: b""),
    "another object": (1, lambda content, rng: b"{}"),
    "another value": (1, lambda content, rng: b"[" * 100_000),
    "deleted": (1, lambda content, rng: None),
}


def damages(run: Path, seed: int) -> Iterator[str]:
    """Damages one file of a run folder after another, yields what was done, and undoes it."""
    rng = random.Random(seed)
    kept = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock"}
    for path in kept:
        for name, (times, damage) in DAMAGES.items():
            for _ in range(times):
                content = damage(kept[path], rng)
                if content is None:
                    path.unlink()
                else:
                    path.write_bytes(content)
                yield f"{path.relative_to(run)} {name}"
                shutil.rmtree(run)
                for other, whole in kept.items():
                    other.parent.mkdir(parents=True, exist_ok=True)
                    other.write_bytes(whole)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [Run.read(tiny_config(name="study", seed=seed, model__attention=spec)) for spec in SPECS for seed in (0, 1)]


@pytest.fixture(scope="module")
def finished(runs, tmp_path_factory) -> Path:
    results = tmp_path_factory.mktemp("results")
    assert run_study(runs, results, "a command") == 0
    return results


@pytest.fixture
def results(finished, tmp_path) -> Path:
    """A copy of the finished study, for damages."""
    return Path(shutil.copytree(finished, tmp_path / "results"))


class Shown(NamedTuple):
    """What a study shows."""

    table: str
    curves: list[Any]
    page: str


def shown(results: Path) -> tuple[Shown, list[str]]:
    """Returns what a study shows, and the problems that it names."""
    study = read_study(results / "study")
    quiet = dataclasses.replace(study, problems=())
    curves = [row.metrics for row in study.rows]
    return Shown(tables.render(study, "csv"), curves, html.page(quiet, {})), tables.incomplete(study)


@pytest.mark.slow
def test_a_damage_to_a_finished_run_is_named_or_changes_nothing(runs, results, capsys):
    whole, problems = shown(results)
    assert not problems
    folder = run_folder(results, runs[0])
    tried = 0
    for what in damages(folder.path, seed=0):
        text, problems = shown(results)
        names = "did not finish" if what == "result.json deleted" else folder.path.name
        assert text == whole or any(names in problem for problem in problems), what
        assert all("\n" not in problem for problem in problems)
        tried += 1
    assert tried > 1000


@pytest.mark.slow
def test_a_damage_to_a_finished_run_is_mended_and_said(runs, results, capsys):
    whole, _ = shown(results)
    folder = run_folder(results, runs[0])
    for number, what in enumerate(damages(folder.path, seed=1)):
        if number % 9:
            continue
        (_, before), _ = shown(results), capsys.readouterr()
        assert run_study(runs, results, "a command") == 0
        said = capsys.readouterr().err
        now, problems = shown(results)
        assert not problems and (now.table, now.curves) == (whole.table, whole.curves), what
        assert not before or folder.path.name in said, what


@pytest.mark.slow
def test_a_damage_to_an_unfinished_run_changes_no_result(runs, results, capsys):
    run = runs[0]
    folder = run_folder(results, run)
    expected = numbers(folder)
    (folder.path / "result.json").unlink()
    last = folder.checkpoints()[-1]
    shutil.copy(last, last.with_name("000000006.msgpack"))
    for number, what in enumerate(damages(folder.path, seed=2)):
        if number % 9:
            continue
        shown(results)
        assert run_study([run], results, "a command") == 0, what
        assert numbers(folder) == expected, what
        assert len(capsys.readouterr().err.splitlines()) <= 3


@pytest.mark.slow
def test_a_whole_run_is_left_alone(runs, finished, capsys):
    folder = run_folder(finished, runs[0])
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    assert mend(runs[0], folder, manifest=lambda: pytest.fail("nothing is to be written"))
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_files_of_earlier_versions_have_no_digest_and_never_end_in_a_traceback(runs, results):
    folder = run_folder(results, runs[0])
    for name in ("config.json", "manifest.json", "result.json"):
        value = folder.read(name)
        value.pop("metrics_sha256", None)
        (folder.path / name).write_text(json.dumps(value))
    whole, problems = shown(results)
    assert not problems
    for number, what in enumerate(damages(folder.path, seed=3)):
        if number % 3:
            continue
        text, problems = shown(results)
        assert problems or text.table.count("\n") >= whole.table.count("\n"), what


def numbers(folder: RunFolder) -> dict[str, object]:
    result = folder.result()
    assert result is not None
    return {
        name: result[name] for name in ("parameter_hash", "test_accuracy", "validation_accuracy", "slices", "steps")
    }


@pytest.mark.slow
def test_a_foreign_folder_is_named_and_the_rest_is_shown(results):
    whole, _ = shown(results)
    (results / "study" / "pictures").mkdir()
    (results / "study" / "0123456789ab").mkdir()
    (results / "study" / "0123456789ab" / "config.json").write_text(
        '{"task": 3, "seed": 0, "model": {"attention": "full"}}'
    )
    text, problems = shown(results)
    assert text == whole
    assert problems == [
        "Run 0123456789ab: config.json is not what this program writes: task must be a string; got 3.",
        "Run 0123456789ab: it is left out, for its config is not known.",
        "Folder pictures: there is no run in it.",
    ]
