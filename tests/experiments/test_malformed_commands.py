"""A thousand command lines that are wrong in some way, drawn from a seed: each is refused in one line."""

import importlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import cli
from experiments.config import schema

EACH = 200
MAINS = ("run", "status", "table", "report", "archive", "benchmark", "show_task", "generate")
TYPOS = "abcdefghijklmnopqrstuvwxyz_0"
SPEC_FIELDS = (
    *("task", "model.attention", "model.position", "model.norm", "train.optimizer", "train.schedule"),
    *("model.encoder", "model.cross_attention"),
)
BAD_NUMBERS = ("many", "1.5.2", "--", "1e", "0x10", "nan", " ", "NaN", "inf")
BAD_SPECS = (
    *("nothing_like_it", "full:", "full:window_size=3", "mqar:length=x", ":", "full++full", "mqar:length", "=", "+"),
    *("mqar:length=64,length=32", "sliding_window:window_size=0", "rope:share=2", "adamw:beta1=7", "cosine:x=1", "|"),
)

Draw = Callable[[random.Random], list[str]]


def misspelled(word: str, rng: random.Random) -> str:
    place = rng.randrange(len(word))
    return word[:place] + rng.choice(TYPOS) + rng.choice(TYPOS) + word[place + 1 :]


def flag_with(kind: str, flags, rng: random.Random) -> list[str]:
    """Returns a wrong use of one of the flags of a main."""
    names = sorted(name for name in flags if name not in ("override", "traceback"))
    name = rng.choice(names)
    if kind == "unknown":
        return [f"--{misspelled(name, rng)}zq=1"]
    numbers = [name for name in names if type(flags[name].value) is int or flags[name].flag_type() == "int"]
    choices = [name for name in names if flags[name].flag_type() == "string enum"]
    if kind == "number" and numbers:
        return [f"--{rng.choice(numbers)}={rng.choice(('many', '1.5', '', '-99999999999999999999'))}"]
    if kind == "choice" and choices:
        return [f"--{rng.choice(choices)}={misspelled('markdown', rng)}zq"]
    if kind == "no value":
        return [f"--{rng.choice([name for name in names if flags[name].flag_type() != 'bool'])}"]
    return ["stray" * rng.randint(1, 3), *(["-"] * rng.randint(1, 2))]


def of_a_config(rng: random.Random) -> list[str]:
    """Returns a wrong field of the config, or a wrong grid."""
    fields = {
        key: field for key, field in schema.declared().items() if key not in ("name", "study.vary", "study.select")
    }
    key = rng.choice(sorted(fields))
    wrong = {int: BAD_NUMBERS, float: ("many", "nan", "1e999", "", "--"), bool: ("2", "maybe", "", "yess")}
    plain = [key for key, field in fields.items() if type(field.default) in wrong]
    number = rng.choice(plain)
    value = rng.choice(wrong[type(fields[number].default)])
    spec = rng.choice(SPEC_FIELDS)
    return rng.choice(
        (
            [f"--config.{misspelled(key, rng)}zq=1"],
            [f"--config.{number}={value}"],
            [f"--config.{spec}={rng.choice(BAD_SPECS)}"],
            [f"--vary={number}={value}|{value}"],
            [f"--vary={spec}={rng.choice(BAD_SPECS)}"],
            [f"--vary={misspelled(key, rng)}zq=1|2"],
            [f"--vary={key}"],
            ["--vary=train.steps=5|5"],
            ["--config.train.steps=5", "--vary=train.steps=6|7"],
            [f"--select={misspelled(key, rng)}zq"],
            ["--seeds=0"],
            ["--config.seed=-1"],
            [f"--config.name={rng.choice(('', '.', '..', 'a/b', '.hidden'))}"],
        )
    )


def command(main: str, flags, rng: random.Random, folder: Path) -> list[str]:
    kind = rng.choice(("unknown", "number", "choice", "no value", "stray"))
    wrong = flag_with(kind, flags, rng)
    if main == "run":
        wrong = rng.choice((wrong, of_a_config(rng), of_a_config(rng)))
        return ["--config=configs/quickstart.py", "--dry_run", *wrong]
    if main in ("table", "report", "generate"):
        missing = [str(folder / misspelled("quickstart", rng))], [f"--study={folder}"], []
        return rng.choice((["results/reference/quickstart", *wrong], *missing))
    if main == "archive":
        kept = f"--output={folder / 'kept'}"
        nothing = [str(folder), kept], [str(folder), kept, "--unpack"], [misspelled("results", rng), kept], [kept]
        return rng.choice((["results/reference/quickstart", kept, *wrong], ["results/reference/quickstart"], *nothing))
    if main == "show_task":
        return rng.choice((wrong, [f"--task={rng.choice(BAD_SPECS)}"], [f"--task={misspelled('mqar', rng)}zq"], []))
    specs = [f"--variants={rng.choice(BAD_SPECS)}"], [f"--lengths={rng.choice(BAD_NUMBERS)}"]
    return rng.choice((wrong, *specs, ["--training", "--generation"], ["--generation", "--tasks=zq"]))


@pytest.mark.parametrize("main", MAINS)
def test_a_malformed_command_is_refused_in_one_line(main, tmp_path, monkeypatch, capsys):
    module, rng = importlib.import_module(f"experiments.{main}"), random.Random(main)
    accepted = []
    for _ in range(EACH):
        arguments = command(main, module.FLAGS, rng, tmp_path)
        monkeypatch.setattr(sys, "argv", [main, *arguments])
        started = time.process_time()
        code = cli.execute(module.run, module.FLAGS)
        out, err = capsys.readouterr()
        if code != 2 or err.count("\n") != 1 or not err.startswith("error: ") or out:
            accepted.append((arguments, code, err[:200], out[:80]))
        assert time.process_time() - started < 5, arguments  # of this process: others may be busy
    assert not accepted
