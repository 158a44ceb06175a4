"""The command line of the report."""

from experiments import cli, report
from tests.experiments.fake_study import write_study


def execute(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["report", *arguments])
    return cli.execute(report.run, report.FLAGS)


def test_it_prints_where_the_report_is(tmp_path, monkeypatch, capsys):
    toy = write_study(tmp_path / "toy", ["conv+full"], 1)
    assert execute(monkeypatch, str(toy), f"--output={tmp_path / 'there'}") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'there' / 'report.html'}\n"
    assert (tmp_path / "there" / "report.html").exists() and not (toy / "report.html").exists()


def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys):
    for arguments, message in (
        ([], "name the folder of a study"),
        ([str(tmp_path / "nothing")], "there is no folder"),
        ([str(tmp_path), "--output="], "names no folder"),
    ):
        assert execute(monkeypatch, *arguments) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and message in err
