"""Checks variants against the laws from a shell; a line per law, exit code 1 if one is broken."""

import argparse
import importlib
import os
import sys
from typing import NoReturn, TypeGuard

import jax

from attention_variants import specs
from attention_variants.conformance import LAWS, Case, side_by_side
from attention_variants.conformance.cases import CASES
from attention_variants.interface import AttentionVariant
from attention_variants.registry import VARIANTS, make_variant


class _Parser(argparse.ArgumentParser):
    """Raises in one line instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        """Raises ValueError, with the nearest flags where one is unknown."""
        if message.startswith("unrecognized arguments: -"):
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            raise ValueError(specs.unknown("flag", message.split()[2].partition("=")[0], flags))
        raise ValueError(f"{message}.")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = _Parser(prog="python -m attention_variants.conformance", description=__doc__, allow_abbrev=False)
    chosen = parser.add_mutually_exclusive_group()
    spec = "a spec such as sliding_window:window_size=5, or my_module:MyVariant; may be repeated"
    chosen.add_argument("--variant", action="append", help=spec)
    chosen.add_argument("--all", action="store_true", help="every registered variant at its sharp cases")
    parser.add_argument("--length", type=int, help="sequence length, best a prime (default: 37)")
    parser.add_argument("--law", action="append", help=f"only this law; may be repeated. One of: {', '.join(LAWS)}")
    parser.add_argument("--jobs", type=int, help="cases checked side by side (default: one per core)")
    side_by_side.configure()
    try:
        options = parser.parse_args(argv)
        if not options.all and options.variant is None:
            raise ValueError("--variant=SPEC or --all is needed.")
        laws = options.law or list(LAWS)
        for law in laws:
            if law not in LAWS:
                raise ValueError(specs.unknown("law", law, LAWS))
        if options.length is not None and options.length < 17:
            raise ValueError(f"--length must be an integer >= 17, room for ragged pieces; got {options.length}.")
        if options.jobs is not None and options.jobs < 1:
            raise ValueError(f"--jobs must be an integer >= 1; got {options.jobs}.")
        cases = _all_cases() if options.all else {name: _one_case(name) for name in options.variant}
    except ValueError as error:
        print(f"conformance: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if options.length is not None:  # limit and sharpness are known only for the length of the case
        cases = {name: Case(case.variant, options.length, sharp=False) for name, case in cases.items()}
    jobs = min(options.jobs or len(os.sched_getaffinity(0)), len(cases))
    broken = 0
    for line in side_by_side.check_cases(cases, laws, jobs):
        broken += line.startswith(side_by_side.BROKEN)
        print(line, flush=True)
    outcome = f"{broken} broken" if broken else "all hold"
    print(f"{len(cases)} case(s), {len(laws)} law(s) each: {outcome} on jax {jax.__version__}")
    return 1 if broken else 0


def _all_cases() -> dict[str, Case]:
    """Returns the table of sharp cases, in which every registered variant must have a row."""
    missing = [name for name in VARIANTS if not any(key.partition(":")[0] == name for key in CASES)]
    if missing:
        raise ValueError(f"no row in attention_variants/conformance/cases.py for {', '.join(missing)}.")
    return CASES


def _one_case(name: str) -> Case:
    """Returns the case of a spec, or of a class given as module:Class or module:Class:field=value."""
    module_name, _, rest = name.partition(":")
    if rest and "=" not in rest.partition(":")[0] and module_name not in VARIANTS:
        sys.path.insert(0, os.getcwd())
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # whatever the user's module raises
            raise ValueError(f"cannot import {module_name!r} of --variant={name}: {error}") from error
        class_name, _, fields = rest.partition(":")
        found = getattr(module, class_name, None)
        if not _is_variant(found):
            choices = [key for key, value in vars(module).items() if _is_variant(value)]
            raise ValueError(specs.unknown(f"AttentionVariant in {module_name}", class_name, choices))
        spec = f"{class_name}:{fields}" if fields else class_name
        return Case(specs.build(spec, {class_name: found}, "variant"), sharp=False)
    return Case(make_variant(name), sharp=False)


def _is_variant(item: object) -> TypeGuard[type[AttentionVariant]]:
    return isinstance(item, type) and issubclass(item, AttentionVariant) and item is not AttentionVariant


if __name__ == "__main__":
    sys.exit(main())
