"""The command line of the laws: 0 where they hold, 1 where one is broken, 2 and one line for a mistake."""

import pathlib
import re
import sys
from collections.abc import Iterator

import jax
import pytest

from attention_variants import specs
from attention_variants.conformance import LAWS, Case, __main__, side_by_side
from attention_variants.registry import VARIANTS, make_variant
from attention_variants.variants.full import FullAttention

HERE = pathlib.Path(__file__).parent
FAST = "weights_follow_pattern"


@pytest.fixture(autouse=True)
def in_a_folder_with_modules(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "modules_of_mine.py").write_text((HERE.parent / "learned_decay.py").read_text() + BROKEN)
    (tmp_path / "module_that_fails.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "module_with_a_typo.py").write_text("def\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("modules_of_mine", None)


BROKEN = """

class Unnormalised(LearnedDecayAttention):
    normalised = True
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = __main__.main(list(arguments))
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    "variant", ["sliding_window:window_size=5", "modules_of_mine:LearnedDecayAttention:chunk_size=7"]
)
def test_laws_that_hold(variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, f"--variant={variant}", f"--law={FAST}", "--law=cost_is_exact", "--length=19")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == f"{variant} at length 19"
    assert lines[1].startswith(f"  holds  {FAST} (") and lines[2].startswith("  holds  cost_is_exact (")
    assert lines[3] == f"1 case(s), 2 law(s) each: all hold on jax {jax.__version__}"


@pytest.mark.parametrize(
    "arguments",
    [["--variant=full"], ["--variant=sliding_window"], pytest.param(["--all", "--length=41"], marks=pytest.mark.slow)],
)
def test_only_the_table_of_cases_has_to_be_sharp(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """At its defaults and a short length a variant may well be full attention, which breaks no law."""
    code, out, _ = run(capsys, *arguments, "--law=limits_are_full_attention")
    assert code == 0 and "all hold" in out


def test_a_broken_variant(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--variant=modules_of_mine:Unnormalised", f"--law={FAST}", "--law=sees_only_pattern")
    assert (code, err) == (1, "")
    assert f"BROKEN {FAST}" in out and "rows must sum to 1" in out and "holds  sees_only_pattern" in out
    assert "2 law(s) each: 1 broken" in out


@pytest.mark.slow
def test_all_runs_every_sharp_case(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--all", "--law=wrong_arguments_are_named", "--jobs=1")
    assert code == 0 and all(f"\n{name} at length" in f"\n{out}" for name in VARIANTS)


@pytest.mark.slow
def test_side_by_side_prints_the_same_in_the_same_order() -> None:
    cases = {str(size): Case(make_variant(f"sliding_window:window_size={size}")) for size in (5, 64, 2)}
    laws = [FAST, "limits_are_full_attention"]
    alone, together = (
        [re.sub(r"\d+\.\d s", "", line) for line in side_by_side.check_cases(cases, laws, jobs)] for jobs in (1, 2)
    )
    assert alone == together and len(alone) == 3 * 3 + 1
    assert [line.startswith(side_by_side.BROKEN) for line in alone].index(True) == 5, "a window of 64 is not sharp"


def test_where_no_processes_can_be_started_one_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_semaphores(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", no_semaphores)
    cases = {str(size): Case(make_variant(f"sliding_window:window_size={size}")) for size in (5, 2)}
    lines = list(side_by_side.check_cases(cases, ["pattern_is_as_drawn"], jobs=2))
    assert [line.split()[0] for line in lines] == ["5", "holds", "2", "holds"]


def test_all_names_a_variant_without_a_case(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VARIANTS, "forgotten", FullAttention)
    assert run(capsys, "--all") == (
        2,
        "",
        "conformance: no row in attention_variants/conformance/cases.py for forgotten.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant=ful"], "unknown attention variant 'ful'; valid choices, nearest first: full,"),
        (["--variant=full:window_size=3"], "unknown field of attention variant 'full': 'window_size'; valid choices"),
        (["--variant=sliding_window:window_size=0"], "`window_size` must be an integer >= 1; got 0."),
        (["--variant="], "is not a spec"),
        (["--variant=nowhere:Class"], "cannot import 'nowhere' of --variant=nowhere:Class: No module named"),
        (["--variant=module_that_fails:Class"], "cannot import 'module_that_fails'"),
        (["--variant=module_with_a_typo:Class"], "cannot import 'module_with_a_typo' of --variant=module_with_a_typo"),
        (["--variant=modules_of_mine:LearndDecayAttention"], "nearest first: LearnedDecayAttention"),
        (
            ["--variant=modules_of_mine:DecayGate"],
            "unknown AttentionVariant in modules_of_mine 'DecayGate'; valid choices, nearest first: LearnedD",
        ),
        (["--variant=modules_of_mine:LearnedDecayAttention:chunk_size=0"], "`chunk_size` must be an integer >= 1"),
        (["--variant=modules_of_mine:LearnedDecayAttention:size=1"], "unknown field"),
        (["--variant=full", "--law=matches_definitions"], "unknown law 'matches_definitions'; valid choices, nearest"),
        (["--variant=full", "--jobs=0"], "--jobs must be an integer >= 1; got 0."),
        (["--variant=full", "--length=16"], "--length must be an integer >= 17, room for ragged pieces; got 16."),
    ],
)
def test_a_mistake_gets_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith("conformance: ") and message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--variant=SPEC or --all is needed"),
        (["--variant=full", "--all"], "not allowed with argument --variant"),
        (["--length=x", "--all"], "--length: invalid int value: 'x'"),
        (["--varian=full"], "unknown flag '--varian'; valid choices, nearest first: --variant, "),
        (["full"], "unrecognized arguments: full"),
    ],
)
def test_a_wrong_flag_gets_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith("conformance: ") and message in err


def test_every_law_says_what_it_is() -> None:
    assert all(law.__doc__ and law.__doc__.splitlines()[0].endswith(".") for law in LAWS.values())
    assert "cost_is_exact" in specs.unknown("law", "cost", LAWS)


def test_every_variant_that_is_named_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--variant=full", "--variant=linear", "--variant=full", f"--law={FAST}", "--jobs=1")
    assert code == 0 and "2 case(s), 1 law(s) each: all hold" in out
