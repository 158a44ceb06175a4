"""The scripts of docs/results.md run as they stand there, and print what it says."""

import contextlib
import io
import pathlib
import re
import sys
import types

import jax
import numpy as np
import pytest
from flax import nnx

import experiments
from experiments import api, cli, run
from experiments.studies import archive
from tests.experiments.conftest import CONFIG
from tests.experiments.tiny import RESULT

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "results.md").read_text()


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The folder `results` of a clone in which the study of the page is trained, at a small size."""
    (tmp_path / "tiny.py").write_text(CONFIG.replace('"tiny"', '"quickstart"'))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reference").symlink_to(ROOT / "results" / "reference")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run", "--config=tiny.py", "--seeds=2"])
    assert cli.execute(run.run, run.FLAGS) == 0
    return tmp_path / "results"


@pytest.mark.slow
def test_the_page_runs_as_it_stands(trained, capsys):
    assert "--config=configs/quickstart.py" in PAGE
    blocks = re.findall(r"```(python|text)\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    printed, checked = "", 0
    for language, text in blocks:
        if language == "text":
            assert printed == text
            checked += 1
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(text, names)
        printed = out.getvalue()
    assert checked == 3 and re.fullmatch(r"conv\+full answers \d\.\d\d of 2 queries in 64 rows\n", printed)


@pytest.mark.slow
def test_a_model_has_the_best_parameters_and_scores_as_its_result_says(trained):
    study = experiments.load(trained / "quickstart")
    assert [each.seed for each in study.runs] == [0, 1] and study.rows[0]["run_ids"] == [each.id for each in study.runs]
    for each in study.runs:
        task, model = each.task(), each.model()
        right, stream = [], jax.random.fold_in(jax.random.key(each.seed), 2)
        for batch in range(2):  # two batches of 7 rows: the test stream of the config
            rows = task.sample(jax.random.fold_in(stream, batch), 7)
            right.append(np.asarray(model(rows.inputs, rows.positions).argmax(-1) == rows.targets))
        assert np.concatenate(right).mean() == pytest.approx(each.result["test_accuracy"])
    before = sorted((trained / "quickstart").rglob("*"))
    damaged = next((study.runs[0].folder / "checkpoints").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ValueError, match="has no checkpoint that fits its model"):
        study.runs[0].model()
    assert sorted((trained / "quickstart").rglob("*")) == before, "reading removes nothing"


@pytest.mark.slow
def test_a_model_of_every_evaluation_is_there_where_they_were_kept(trained, monkeypatch, capsys):
    def steps_of(name):
        return [each.checkpoints() for each in experiments.load(trained / name).runs]

    command = ["run", "--config=tiny.py", "--config.train.keep_checkpoints=every"]
    assert steps_of("quickstart") == [[], []]
    for more, said in (([], "1 of 1 runs have ended"), (["--config.name=other", "--workers=2", "--seeds=2"], "")):
        monkeypatch.setattr(sys, "argv", [*command, *more])
        assert cli.execute(run.run, run.FLAGS) == 0
        out = capsys.readouterr().out
        assert said in out and ("1 of them did not keep the parameters of every evaluation" in out) == bool(said)
    assert steps_of("quickstart") == [[], []] and steps_of("other") == [[0, 3, 6], [0, 3, 6]]
    for each in experiments.load(trained / "other").runs:
        at = {step: nnx.state(each.model(step)) for step in each.checkpoints()}
        scores = [(row["validation_accuracy"], -row["validation_loss"], -row["step"]) for row in each.metrics]
        best = -max(scores)[2]
        same = [step for step in at if jax.tree.all(jax.tree.map(np.array_equal, at[step], nnx.state(each.model())))]
        assert same == [best]
        for path in (each.folder / "checkpoints").iterdir():
            path.unlink()
        assert jax.tree.all(jax.tree.map(np.array_equal, at[best], nnx.state(each.model()))), "found by the metrics"
        with pytest.raises(ValueError, match="no parameters of step 5; 3 steps are kept, nearest first 6, 3, 0"):
            each.model(5)
    with pytest.raises(ValueError, match="train with --config.train.keep_checkpoints=every"):
        experiments.load(trained / "quickstart").runs[0].model(0)


def test_an_archive_is_read_and_has_no_models(tmp_path):
    study = experiments.load(ROOT / "results" / "reference" / "quickstart")
    assert len(study.rows) == 6 and len(study.runs) == 54 and study.name == "quickstart" and study.notes
    assert len(archive.open_archive(ROOT / "results" / "reference" / "quickstart")) == 54
    assert all(type(row) is dict and row["n"] == len(row["run_ids"]) == 5 for row in study.rows)
    with pytest.raises(ValueError, match="has no checkpoint that fits its model"):
        study.runs[0].model()
    with pytest.raises(KeyError):
        study.run("nothing")
    with pytest.raises(ValueError, match="there is no folder"):
        experiments.load(tmp_path / "none")


def test_a_run_whose_config_means_something_else_today_is_refused(tmp_path):
    config = {"task": "parity", "seed": 3, "model.attention": "full"}
    old = api.EndedRun(id="0" * 12, config=config, result=RESULT, metrics=[], folder=tmp_path)
    for read in (old.model, old.task):
        with pytest.raises(
            ValueError, match="run 000000000000: its config is that of [0-9a-f]+ today; the folder has another"
        ):
            read()


def test_rows_become_a_data_frame_where_pandas_is_installed(monkeypatch):
    study = experiments.load(ROOT / "results" / "reference" / "quickstart")
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    assert study.to_pandas() == ("frame", study.rows)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_pandas.. needs pandas, which is not installed"):
        study.to_pandas()
