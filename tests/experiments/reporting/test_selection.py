"""Which rows and columns a table shows, in which order; and what names a user may write for them."""

import csv
import io

import pytest

from attention_variants.specs import SpecError
from experiments.reporting import comparison, selection, tables
from experiments.reporting.columns import columns
from experiments.reporting.names import find
from experiments.studies.results import read_study
from tests.experiments.fake_study import KINDS, config_of, score, write_run, write_study

TASKS = ["mqar:length=64", "mqar:length=128,num_pairs=8", "induction"]
KINDS_SHOWN = [*KINDS, "conv+linear:chunk_size=32"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return read_study(write_study(tmp_path_factory.mktemp("results") / "toy", KINDS_SHOWN, 2, TASKS))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A study that chooses a rate, of which one is at the edge."""
    folder = tmp_path_factory.mktemp("results") / "chosen"
    for attention, best in (("conv+full", 0.003), ("conv+linear", 0.01)):
        for rate in (0.001, 0.003, 0.01):
            config = config_of(attention, learning_rate=rate)
            config["study"]["select"] = ("train.learning_rate",)
            write_run(folder, config, validation_accuracy=0.9 if rate == best else 0.5, test_accuracy=0.9 - 10 * rate)
    return read_study(folder)


def shown(study, models=None, where=()):
    part, _ = selection.select(study, models, where)
    return [(row.config["task"], row.attention) for row in part.rows]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ("full", {"conv+full"}),
        ("conv+full", {"conv+full"}),
        ("full|linear", {"conv+full", "conv+linear", "conv+linear:chunk_size=32"}),  # a name without its fields
        ("linear:*", {"conv+linear:chunk_size=32"}),
        ("*window*", {kind for kind in KINDS if "window" in kind}),
        ("bigbird | strided_sparse", {kind for kind in KINDS if "bigbird" in kind or "strided" in kind}),
    ],
)
def test_rows_are_models_by_name_or_glob_on_every_task(study, models, expected):
    found = shown(study, models)
    assert {attention for _, attention in found} == expected
    assert found == [(row.config["task"], row.attention) for row in study.rows if row.attention in expected]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        (["task=mqar*"], lambda row: row.task.name == "mqar"),
        (["task!=mqar*"], lambda row: row.task.name != "mqar"),
        (["task=ind*|mqar:length=64"], lambda row: row.config["task"] in ("induction", "mqar:length=64")),
        (["task.length>=128"], lambda row: row.task.fields["length"] >= 128),
        (["length=64.0"], lambda row: row.task.fields["length"] == 64),  # a number, and a default of `induction`
        (["num_pairs<8"], lambda row: row.task.fields.get("num_pairs", 9) < 8),  # a default; `induction` has none
        (["num_pairs=none"], lambda row: row.task.name == "induction"),
        (["accuracy>0.9"], lambda row: row.accuracy.mean > 0.9),
        (["state bytes<=33536"], lambda row: row.mean("cache_bytes") <= 33536),
        (["attention=*full"], lambda row: row.attention == "conv+full"),
        (["bidirectional=false"], lambda row: True),
        (["train.steps > 1", "accuracy < 0.9", "task=induction"], lambda row: (
            row.accuracy.mean < 0.9 and row.config["task"] == "induction"
        )),
    ],
)  # fmt: skip
def test_conditions_hold_all_at_once(study, where, kept):
    expected = [(row.config["task"], row.attention) for row in study.rows if kept(row)]
    assert shown(study, None, where) == expected and expected


def test_what_is_left_differs_in_fewer_keys_and_environments_and_is_told_apart_by_itself(tmp_path):
    for seed in range(5):
        write_run(tmp_path / "study", config_of("conv+full", seed, task="mqar"))
        write_run(tmp_path / "study", config_of("conv+linear", seed, task="mqar"))
        for task in ("mqar", "induction"):
            config = config_of("conv+strided_sparse:stride=8", seed, task=task)
            write_run(tmp_path / "study", config, environment={"device": "Another CPU"})
    study = read_study(tmp_path / "study")
    part, (note,) = selection.select(study, "full|linear", ["task=mqar"])
    assert len(study.environments) == 2 and [e["device"] for e in part.environments] == ["Imaginary CPU @ 2.00GHz"]
    assert part.varied == () and part.models == ["conv+full", "conv+linear"]
    for each in (part, selection.select(study, "strided_sparse")[0]):  # one of them has the second environment alone
        assert len(each.environments) == 1 and {index for row in each.rows for index in row.environments} == {0}
    assert note.startswith("Shown: 2 of 4 rows (--rows=full|linear --where=task=mqar). All have task=mqar.")
    assert [study.best(row) for row in study.rows if row.attention == "conv+full"] == [False]
    assert [part.best(row) for row in part.rows] == [True, False]


def test_choosing_comes_before_selecting(chosen):
    part, (note,) = selection.select(chosen, None, ["learning_rate<0.01"])
    (row,) = part.rows
    assert (row.attention, row.choices[0].value) == ("conv+full", 0.003), "not the best of the rates that are left"
    assert "after what is chosen by validation accuracy was chosen" in note and len(row.choices[0].curve) == 3


def records(table):
    return list(csv.DictReader(io.StringIO(tables.as_csv(table))))


def titles(table):
    return [column.title for column in table.shown]


def test_columns_stand_in_the_order_asked_for_behind_those_that_name_a_row(study):
    def table(wanted):
        return tables.of_study(study, lambda parts: selection.choose(study, wanted, parts))

    expected = ["attention", "task", "params", "accuracy", "state bytes"]
    for wanted in ("params,accuracy,cache_bytes", "params, accuracy,state bytes,params", "par,accuracy,state_b,task"):
        assert titles(table(wanted)) == expected
    assert list(records(table("params,accuracy"))[0]) == ["model.attention", "task", "params", "accuracy"]
    for style in tables.STYLES:
        text = tables.STYLES[style](table("params,accuracy")).replace("\\_", "_")
        assert "peak" not in text and text.count("conv+full") == 3, style


def test_what_only_csv_has_can_be_a_column_and_a_glob_stands_for_several(study):
    def table(wanted):
        return tables.of_study(study, lambda parts: selection.choose(study, wanted, parts))

    assert titles(table("validation_accuracy,diverged"))[2:] == ["validation accuracy", "diverged"]
    (first, *_) = study.rows
    assert records(table("validation_accuracy"))[0]["validation_accuracy"] == str(first.mean("validation_accuracy"))
    assert titles(table("train_flops*"))[2:] == ["train FLOPs executed", "ideal"]


def test_notes_are_of_the_columns_that_are_shown(study):
    notes = " ".join(tables.of_study(study, lambda parts: selection.choose(study, "params", parts)).notes)
    assert "Params:" in notes and "Accuracy:" not in notes and "Bold" not in notes


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ("accuracy", lambda row: row.accuracy.mean),
        ("-accuracy", lambda row: -row.accuracy.mean),
        ("attention", lambda row: row.attention.replace("=16", "=06").replace("=8", "=08")),
        ("-task.length,-accuracy", lambda row: (-row.task.fields["length"], -row.accuracy.mean)),
        ("cache_bytes,accuracy", lambda row: (row.mean("cache_bytes"), row.accuracy.mean)),
    ],
)
def test_rows_are_sorted_by_one_field_after_another(study, wanted, key):
    rows = selection.sort(study, tables.of_study(study), wanted).rows
    assert [key(row) for row in rows] == sorted(key(row) for row in study.rows)


def test_rows_without_a_value_come_last_in_both_directions_and_equal_ones_stay(study):
    for wanted in ("steps_to_solve_median", "-steps_to_solve_median"):
        rows = selection.sort(study, tables.of_study(study), wanted).rows
        unsolved = [row for row in study.rows if row.steps_to_solve is None]
        assert unsolved and [id(row) for row in rows[-len(unsolved) :]] == [id(row) for row in unsolved]


def test_a_comparison_has_columns_and_an_order_of_its_own(study):
    wanted = "difference,n,steps_mean"
    table = comparison.comparison(study, "full", lambda parts: selection.choose(study, wanted, parts))
    assert titles(table)[2:] == ["difference", "n", "steps mean"]
    found = records(selection.sort(study, table, "difference"))
    numbers = [float(record["difference"]) for record in found if record["difference"]]
    assert numbers == sorted(numbers) and [record["difference"] for record in found[-3:]] == [""] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: selection.select(s, "full|fulll"), "--rows: unknown model 'fulll'; valid choices, nearest first: f"),
        (lambda s: selection.select(s, "full|"), "--rows: unknown model ''"),
        (lambda s: selection.select(s, None, ["task"]), "--where=task: expected FIELD=VALUE"),
        (lambda s: selection.select(s, None, ["=3"]), "--where==3: expected FIELD=VALUE"),
        (lambda s: selection.select(s, None, ["lenth=3"]), "field 'lenth'; valid choices, nearest first: task.length"),
        (lambda s: selection.select(s, None, ["length<x"]), "after < must stand a number; got 'x'"),
        (lambda s: selection.select(s, None, ["length=65"]), "leaves no row; task.length is 64, 128 in the rows"),
        (lambda s: selection.select(s, None, ["task=mqar*", "task=ind*"]), "--where=task=ind* leaves no row"),
        (lambda s: selection.choose(s, "acuracy", columns(s)), "--columns: unknown column 'acuracy'; valid choices"),
        (lambda s: selection.choose(s, "solve", columns(s)), "--columns: 'solve' begins several names: solved, "),
        (lambda s: selection.sort(s, tables.of_study(s), "-acuracy"), "--sort: unknown field 'acuracy'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_nearest_choices(study, call, message):
    with pytest.raises(SpecError) as error:
        call(study)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_field_whose_name_has_an_operator_can_be_asked_for(tmp_path):
    for attention, accuracy in (("conv+full", 0.75), ("conv+linear", 0.25)):
        tests = [score("shifted", "mqar:power=1.0", accuracy, label="power=1.0")]
        write_run(tmp_path / "study", config_of(attention), tests=tests)
    study = read_study(tmp_path / "study")
    assert [row.attention for row in selection.select(study, None, ["shifted: power=1.0>0.5"])[0].rows] == ["conv+full"]


def test_a_name_is_found_by_itself_by_another_or_by_its_beginning():
    names = {"cache_bytes": ("state bytes",), "params": (), "train.steps": ("steps",), "steps_mean": ()}
    for word, expected in {
        "cache_bytes": "cache_bytes",
        "State_Bytes": "cache_bytes",
        "state": "cache_bytes",
        "steps": "train.steps",
        "par": "params",
    }.items():
        assert find("--flag", "field", word, names) == expected
    for word in ("", "bytes", "s"):
        with pytest.raises(SpecError):
            find("--flag", "field", word, names)


def test_a_comma_may_be_part_of_a_name():
    names = {"a", "b", "a, low", "shifted: x=1,y=2"}
    assert selection.words("a, b,-a, low,shifted: x=1,y=2,,c", names) == ["a", "b", "-a, low", "shifted: x=1,y=2", "c"]
