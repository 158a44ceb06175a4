"""Brings kept results up to date with the code: floors, ceilings, state sizes, names and facts. None was measured.

python docs/refresh_results.py results/reference/mqar ...
python docs/refresh_results.py --draw accuracy_by_length results/reference/mqar

Scores, FLOPs, times and parameter hashes stay as they were. A run whose digest has changed is renamed. Then table.md
and table.csv are written, and the pictures that are there, or are named by `--draw`, are drawn again, or removed where
the results have nothing to draw. Runs in folders and runs in an archive are treated alike. If today's code would not
train a run of a study, or computes other numbers from it, the study is left alone and the exit code is 1.
"""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def refreshed(result: dict[str, Any]) -> dict[str, Any]:
    """Returns a `result.json` with all that follows from its config recomputed.

    Raises:
      ValueError: today's code refuses the config, or computes other numbers from it; one line.
    """
    from experiments import runtime
    from experiments.analysis import compute
    from experiments.analysis.bounds import bounds
    from experiments.config import identity
    from experiments.config.run import Run
    from experiments.config.schema import Config
    from experiments.studies import legacy
    from experiments.studies.attempt import identify
    from experiments.training.other_rows import scored
    from experiments.training.outcome import facts, with_ceilings

    run = Run.read(Config.from_nested(legacy.config_of_today(result["config"])))
    revised = identity.revised(run.config.fields())
    if revised and run.digests.run != result["run_id"]:
        raise ValueError(f"run {result['run_id']} may predate the revision of {', '.join(revised)}.")
    kept = {key: value for key, value in result.items() if key not in ("lengths", "shifted")}
    environment = result.get("environment", {})
    if flags := environment.get("flags"):
        kept["environment"] = environment | {"flags": {name: flags[name] for name in flags if runtime.is_flag(name)}}
    if result["status"] == "failed":
        return kept | identify(run)
    scores = {(test["kind"], test["value"]): test for test in legacy.tests_of_today(result, run.config.task)}
    found = [(test, scores[test.kind, test.value]) for test in run.tests]
    tests = [score | scored(run, test, score["accuracy"], score["loss"]) for test, score in found]
    cost = result["compute"] | {"cache_bytes": compute.count(run, 1)["cache_bytes"]}
    derived = {"compute": cost, "slices": with_ceilings(run, result["slices"]), "tests": tests}
    return kept | identify(run) | derived | bounds(run, run.task) | facts(run)


def refresh(study: pathlib.Path) -> int:
    """Refreshes every run of a study, in folders and in its archive; returns how many have ended."""
    from experiments.studies import archive
    from experiments.studies.run_folder import CONFIG, RESULT, RunFolder

    with tempfile.TemporaryDirectory() as unpacked:
        archived = (study / archive.ARCHIVE).exists()
        if archived:
            archive.unpack(study, unpacked)
        found = [path.parent for place in (study, pathlib.Path(unpacked)) for path in sorted(place.glob(f"*/{RESULT}"))]
        folders = [RunFolder(path) for path in found]
        results = [refreshed(folder.read(RESULT) or {}) for folder in folders]  # all of them, or none is written
        for folder, result in zip(folders, results, strict=True):
            folder.write(RESULT, result)
            folder.write(CONFIG, result["config"])
            if folder.path.name != result["run_id"]:
                folder.path.rename(folder.path.parent / result["run_id"])
        if archived:
            archive.pack(unpacked, study, replace=True)  # runs may have other names now
    return len(results)


def redraw(folder: pathlib.Path, wanted: Sequence[str] = ()) -> None:
    """Writes the tables of a study, and draws its pictures: those that the folder has, and those that are wanted."""
    from experiments.reporting import tables
    from experiments.reporting.figures import registry, style
    from experiments.studies.results import read_study

    study = read_study(folder)
    for kind, ending in (("markdown", "md"), ("csv", "csv")):
        (folder / f"table.{ending}").write_text(tables.render(study, kind) + "\n")
    with style.style():
        for name, picture in registry.pictures(study).items():
            path = folder / f"{name}.png"
            if not path.exists() and name not in wanted:
                continue
            figure = picture.draw(study)
            if figure is None:  # its results have nothing to draw any more
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(style.save(figure, "png"))


def main() -> int:
    """Refreshes the studies named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", action="append", default=[], help="name of a picture that is to be there")
    parser.add_argument("study", nargs="+", type=pathlib.Path)
    asked = parser.parse_args()
    left = 0
    for study in asked.study:
        try:
            runs = refresh(study)
        except ValueError as error:
            print(f"{study}: left alone: {error}", flush=True)
            left = 1
            continue
        print(f"{study}: {runs} runs", flush=True)
        if runs:
            redraw(study, asked.draw)
    return left


if __name__ == "__main__":
    sys.exit(main())
