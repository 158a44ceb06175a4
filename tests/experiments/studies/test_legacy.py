"""Results of earlier versions: the same cells, and the same tests on other rows."""

import json

from experiments.config.schema import Config
from experiments.studies import legacy
from experiments.studies.legacy import config_of_today
from experiments.studies.results import read_study
from tests.experiments.fake_study import config_of, write_run

SCORE = {"accuracy": 0.5, "loss": 1.0, "floor": 0.1, "ceiling": 1.0}


def as_written_once(config, **train):
    once = {key: value for key, value in config["train"].items() if key not in ("optimizer", "schedule")}
    return config | {"train": once | {"warmup_steps": 100, "weight_decay": 0.1} | train}


def test_fields_become_specs():
    config = config_of("full")
    assert config_of_today(config) == config == config_of_today(as_written_once(config))
    changed = config_of_today(as_written_once(config, warmup_steps=7, weight_decay=0.25))
    assert changed["train"]["schedule"] == "cosine:warmup_steps=7"
    assert changed["train"]["optimizer"] == "adamw:weight_decay=0.25"
    assert Config.from_nested(changed).train.steps == config["train"]["steps"] and config_of_today({}) == {}


def test_tests_become_one_list():
    result = {"lengths": {"41-80": SCORE}, "shifted": {"mqar:num_pairs=8,vocab_size=128": SCORE, "induction": SCORE}}
    lengths, *shifted = legacy.tests_of_today(result, "mqar:vocab_size=128")
    assert lengths == {"kind": "length", "value": "41-80", "label": "at 41-80", "length": 60.5, **SCORE}
    assert [test["label"] for test in shifted] == ["num_pairs=8", "induction"]
    assert legacy.tests_of_today({"tests": [1]}, "mqar") == [1]


def test_seeds_of_two_versions_are_one_row(tmp_path):
    """A study to which the present version adds a seed keeps its cells."""
    new = write_run(tmp_path, config_of("full", seed=1))
    old = write_run(tmp_path, as_written_once(config_of("full")), cell=None, task=None, model=None, tests=[])
    result = json.loads((old / "result.json").read_text())
    del result["tests"]
    (old / "result.json").write_text(json.dumps(result | {"lengths": {"256": SCORE}}))
    assert "cell" in json.loads((new / "result.json").read_text())
    study = read_study(tmp_path)
    (row,) = study.rows
    assert row.ended == 2 and study.varied == () and [test.label for test in row.other_rows] == ["at 256"]


def test_an_empty_config_or_result_is_no_traceback(tmp_path):
    for number in range(3):
        write_run(tmp_path, config_of("full", seed=number))
    first, second, _ = sorted(tmp_path.iterdir())
    (first / "config.json").write_text("{}")
    (second / "result.json").write_text("{}")
    assert sum(row.ended for row in read_study(tmp_path).rows) == 2
