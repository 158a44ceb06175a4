"""The command line of the table."""

import pytest

from experiments import cli, table
from tests.experiments.fake_study import config_of, write_run, write_study


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("results") / "toy", seeds=1)


@pytest.fixture
def run(monkeypatch, capsys):
    def execute(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["table", *arguments])
        return cli.execute(table.run, table.FLAGS), *capsys.readouterr()

    return execute


def test_the_study_stands_first_or_behind_its_flag(toy, run):
    code, out, err = run(str(toy))
    assert (code, err) == (0, "") and out.startswith("Study toy\n") and run(f"--study={toy}")[1] == out


def test_formats_and_files(toy, run, tmp_path):
    assert run(str(toy), "--format=csv")[1].startswith("model.attention,")
    assert run(str(toy), "--format=latex", f"--output={tmp_path / 'table.tex'}")[:2] == (0, "")
    assert (tmp_path / "table.tex").read_text().startswith("%")


def test_what_is_missing_is_said_beside_a_format_without_notes(run, tmp_path):
    study = write_study(tmp_path / "toy", seeds=2)
    (study / "mine").mkdir()
    (lost, *_) = study.glob("*/result.json")
    lost.unlink()
    expected = (
        "1 run did not finish; the same command continues with what is left.\nFolder mine: there is no run in it.\n"
    )
    assert run(str(study), "--format=csv")[2] == expected
    _, out, err = run(str(study), "--format=markdown")
    assert err == "" and all(line in out for line in expected.splitlines())


def test_differences_from_a_model_in_every_format(toy, run):
    for style, words in {
        "text": "Study toy, minus conv+full\n",
        "csv": ",difference,",
        "latex": "& reference &",
    }.items():
        code, out, err = run(str(toy), "--compare=full", f"--format={style}")
        assert (code, err) == (0, "") and words in out


def test_what_does_not_compare_is_said_beside_csv(run, tmp_path):
    for attention, device in (("conv+full", "A CPU"), ("conv+linear", "A GPU")):
        write_run(tmp_path / "study", config_of(attention), environment={"device": device})
    err = run(str(tmp_path / "study"), "--compare=full", "--format=csv")[2]
    assert "A CPU" in err and "A GPU" in err and "not told apart" in err


def test_rows_columns_order_and_score_of_several_studies(toy, run, tmp_path):
    other = write_study(tmp_path / "other", ["conv+full", "conv+linear"], seeds=2)
    flags = ["--rows=full|linear", "--where=accuracy>0.5", "--columns=accuracy,n", "--sort=accuracy", "--format=csv"]
    code, out, err = run(str(toy), str(other), *flags)
    header, *lines = out.splitlines()
    assert code == 0 and header == "model.attention,study,accuracy,n"
    assert [line.rsplit(",", 2)[0] for line in lines] == ['conv+linear,"toy, other"', 'conv+full,"toy, other"']
    assert [line[-1] for line in lines] == ["2", "2"], "the run of both counts once"
    note = "Shown: 2 of 6 rows (--rows=full|linear --where=accuracy>0.5)."
    assert err == f"{note} Bold, and corrections for the number of rows, are of these alone.\n"
    assert run(f"--study={toy}", f"--study={other}", *flags)[1] == out
    for style in ("text", "markdown", "latex"):
        text = run(str(toy), str(other), *flags[:-1], f"--format={style}")[1]
        assert "Shown: 2 of 6 rows" in " ".join(text.split()) and text.count("linear") >= 1 and "params" not in text


def test_another_score(toy, run):
    code, out, err = run(str(toy), "--metric=los", "--format=csv")
    lines = [line.split(",") for line in out.splitlines()]
    losses = [float(line[lines[0].index("loss")]) for line in lines[1:] if len(line) == len(lines[0])]
    assert (code, err) == (0, "") and losses == sorted(losses) and len(losses) > 1
    assert "test loss minus that of conv+full" in " ".join(run(str(toy), "--metric=loss", "--compare=full")[1].split())


@pytest.mark.slow
def test_pictures_are_of_the_rows_and_the_score_that_are_shown(toy, run, tmp_path):
    code, _, err = run(str(toy), "--rows=full|linear", "--metric=loss", f"--pictures={tmp_path / 'pictures'}")
    files = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert (code, err) == (0, "") and {"paired_differences.png", "accuracy_against_flops.svg"} <= files
    assert len({name.partition(".")[0] for name in files}) * 2 == len(files)


def test_a_mistake_is_one_line(toy, run):
    for arguments, message in (
        ([], "name the folder of a study"),
        ([""], "name the folder of a study"),
        ([str(toy), "extra"], "'extra'"),
        ([str(toy), "--output="], "--output= names no file"),
        ([str(toy.parent / "toyy")], f"studies near: {toy}"),
        ([str(toy), "--format=word"], "word"),
        ([str(toy), "--fromat=csv"], "--format"),
        ([str(toy), "--compare="], "--compare= names no model"),
        ([str(toy), "", "--format=csv"], "name the folder of a study"),
        ([str(toy), "--rows="], "--rows= names no model"),
        ([str(toy), "--columns="], "--columns= names no column"),
        ([str(toy), "--columns=, ,"], "--columns= names no column"),
        ([str(toy), "--sort="], "--sort= names no field"),
        ([str(toy), "--pictures="], "--pictures= names no folder"),
        ([str(toy), "--metric="], "--metric= names no score"),
        ([str(toy), "--metric=acuracy"], "--metric: unknown score 'acuracy'; valid choices, nearest first: accuracy, "),
        ([str(toy), "--metric=solve_rate", "--compare=full"], "solve_rate is not compared in pairs"),
        ([str(toy), "--where="], "--where=: expected FIELD=VALUE"),
        ([str(toy), "--where=task=induction"], "--where=task=induction leaves no row"),
        ([str(toy), "--rows=linear", "--compare=full"], "--rows and --where leave out 'conv+full'"),
        ([str(toy), "--rows=full,linear"], " Write | between models."),
        ([str(toy), "--where=n==5"], "== is no operator; expected FIELD=VALUE"),
        ([str(toy), "--where=n=>5"], "=> is no operator; expected FIELD=VALUE"),
        ([str(toy), "--where=accuracy=-3"], "leaves no row; accuracy is "),
        (["--sort=accuracy", str(toy)], "folders stand before the flags"),
        ([str(toy), "--compare=fulll"], "unknown model 'fulll'; valid choices, nearest first: full; "),
    ):
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and err.count("\n") == 1 and message in err, (arguments, err)
