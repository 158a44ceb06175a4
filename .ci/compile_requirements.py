"""Writes requirements.txt and requirements-dev.txt: pyproject.toml's dependencies and all they need, pinned.

    python .ci/compile_requirements.py PYTHON_3_11 PYTHON_3_12_OR_LATER

requirements.txt serves a checkout: the library's dependencies and the extra `experiments`. requirements-dev.txt adds
the extras `slurm` and `dev`. Each argument is the interpreter of an environment in which
`pip install -e .[experiments,slurm,dev]` gave the versions to pin. Where the two differ, each pin gets a marker, so
that one file serves every Python from 3.11 on.
"""

import json
import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).parent.parent
MARKERS = ('python_version < "3.12"', 'python_version >= "3.12"')

# Runs inside each environment: the installed closure of the requirements on stdin.
CLOSURE = """
import importlib.metadata, json, sys
from packaging.requirements import Requirement

found, todo = {}, [(Requirement(line), "") for line in json.load(sys.stdin)]
seen = set()
while todo:
    requirement, extra = todo.pop()
    if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
        continue
    name = requirement.name.lower().replace("_", "-").replace(".", "-")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        continue
    found[name] = distribution.version
    for extra in ("", *requirement.extras):
        if (name, extra) not in seen:
            seen.add((name, extra))
            todo += [(Requirement(line), extra) for line in distribution.requires or ()]
print(json.dumps(found))
"""


def closure(python: str, requirements: list[str]) -> dict[str, str]:
    """Returns name -> installed version of the requirements and of everything they need."""
    run = subprocess.run(
        [python, "-c", CLOSURE], input=json.dumps(requirements), capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


def pins(pythons: list[str], requirements: list[str]) -> list[str]:
    """Returns the pinned lines, with markers where the environments differ."""
    older, newer = (closure(python, requirements) for python in pythons)
    lines = []
    for name in sorted(older | newer):
        versions = [environment[name] for environment in (older, newer) if name in environment]
        if len(set(versions)) == 1:
            lines.append(f"{name}=={versions[0]}")
        else:
            lines += [f"{name}=={version} ; {marker}" for version, marker in zip(versions, MARKERS, strict=True)]
    return lines


def main(pythons: list[str]) -> None:
    """Compiles both files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    runtime = pins(pythons, project["dependencies"] + extras["experiments"])
    dev = [line for line in pins(pythons, extras["slurm"] + extras["dev"]) if line not in runtime]
    header = "# Compiled from pyproject.toml by .ci/compile_requirements.py; do not edit by hand.\n"
    (ROOT / "requirements.txt").write_text(header + "\n".join(runtime) + "\n")
    (ROOT / "requirements-dev.txt").write_text(header + "-r requirements.txt\n" + "\n".join(dev) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1:])
