"""What others wrote can be read without harm, and what is written says nothing of who wrote it."""

import ast
import getpass
import json
import pathlib
import socket

import pytest

from experiments import runtime
from experiments.studies import archive, run_folder
from experiments.studies.commands import without_machine
from experiments.studies.results import read_study
from tests.experiments.fake_study import config_of, write_run

ROOT = pathlib.Path(__file__).parent.parent
# Modules that run what they read, or talk to other machines; and the files that may import them, with the reason.
REFUSED = (
    *("pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "yaml"),
    *("socket", "socketserver", "http", "urllib", "requests", "ftplib", "smtplib", "xmlrpc", "aiohttp", "webbrowser"),
)
ALLOWED = {
    ("experiments/studies/whole_files.py", "socket"),  # the name of the host, in the name of a temporary file
    ("experiments/distributed.py", "socket"),  # JAX's processes find each other, where --distributed asks for it
}
CALLS = {"eval", "exec", "compile", "__import__"}  # of what was read


def harmful(source: str) -> set[str]:
    """Returns the refused modules that a source imports, and the refused calls that it makes."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & {*REFUSED}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module).split(".")[0]} & {*REFUSED}
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                found.add(node.func.id)
            found |= {word.arg for word in node.keywords if word.arg in ("allow_pickle", "shell")}
    return found


def test_nothing_runs_what_it_reads_or_talks_to_other_machines():
    found = {
        (str(path.relative_to(ROOT)), name)
        for folder in ("experiments", "attention_variants", "configs", "docs")
        for path in (ROOT / folder).rglob("*.py")
        for name in harmful(path.read_text())
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    "source, found",
    [
        ("def f():\n    import pickle", {"pickle"}),
        ("from http.server import HTTPServer", {"http"}),
        ("x = eval(text)", {"eval"}),
        ("np.load(path, allow_pickle=True)", {"allow_pickle"}),
        ("subprocess.run(text, shell=True)", {"shell"}),
        ("ast.literal_eval(text)\nchunk.lower().compile()", set()),
    ],
)
def test_a_harmful_line_is_found(source, found):
    assert harmful(source) == found


def resealed(line: str, **changes) -> str:
    content = json.loads(line)
    content.pop(run_folder.SEAL)
    content |= changes
    return json.dumps(content | {run_folder.SEAL: run_folder.digest(content)})


@pytest.mark.parametrize("name", ["..", ".", "", "../../x", "a/b", "/etc", ".hidden", "a\\b", "a\0b", 3, None, ["x"]])
def test_an_archive_writes_no_file_outside_its_folder(tmp_path, name):
    write_run(tmp_path / "study", config_of("full", 0))
    archive.pack(tmp_path / "study", tmp_path / "packed")
    packed = tmp_path / "packed" / "runs.jsonl"
    packed.write_text(resealed(packed.read_text(), run=name) + "\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="the name of a run must be a plain folder name"):
        archive.unpack(tmp_path / "packed", tmp_path / "out" / "study")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("field, value", [("slices", "../../x"), ("slices", "a b"), ("run_id", "../x")])
def test_no_name_in_a_result_leads_out_of_the_folder_of_the_report(tmp_path, field, value):
    bins = {"values": [1], "accuracy": [0.5], "count": [3], "ceiling": [1.0]}
    write_run(tmp_path / "study", config_of("full", 0))
    path = write_run(tmp_path / "study", config_of("full", 1))
    changed = json.loads((path / "result.json").read_text()) | {field: {value: bins} if field == "slices" else value}
    (path / "result.json").write_text(json.dumps(changed))
    study = read_study(tmp_path / "study")
    assert [row.ended for row in study.rows] == [1] and any("plain" in problem for problem in study.problems)


def test_a_manifest_names_no_user_and_no_host(tmp_path, monkeypatch):
    home, clone = tmp_path / "home" / "alice", tmp_path / "home" / "alice" / "clone"
    clone.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(clone)
    command = f"python -m experiments.run --config={clone}/configs/a.py --results={home}/my results' --vary=a=b/c"
    command = command.replace("my results'", "results")
    assert without_machine(command) == (
        "python -m experiments.run --config=configs/a.py '--results=~/results' --vary=a=b/c"
    )
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", f"{home}/cache")
    monkeypatch.setenv("XLA_FLAGS", f"--xla_cpu_enable_fast_math=false --xla_dump_to={home}/dump")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "node7.cluster:1234")
    environment = runtime.environment()
    assert environment["flags"]["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false --xla_dump_to=(path)"
    text = json.dumps(environment)
    assert "alice" not in text and "node7" not in text and socket.gethostname() not in text
    assert getpass.getuser() not in [word for value in environment.values() for word in str(value).split()]


def test_a_home_folder_is_found_again(tmp_path, monkeypatch):
    from experiments.config.files import load_config

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("def get_config():\n    return {'name': 'mine'}\n")
    assert load_config("~/mine.py").name == "mine"
