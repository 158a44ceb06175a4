"""The command line that every main shares: absl flags, and one clear line for whatever is wrong with them.

A main keeps its flags in a `FlagValues` of its own, so that mains with flags of the same name can live in one process:

    FLAGS = cli.new_flags()
    _TASK = flags.DEFINE_string("task", None, "Spec of the task.", flag_values=FLAGS)  # read as _TASK.value

    def run() -> None:
        '''Does the work; returns None, or an exit code.'''

    if __name__ == "__main__":
        cli.main(run, FLAGS)

Exit codes: 0 done, 2 the user asked for what cannot be done (one line on standard error), 130, 143 and 129 ended by a
signal, 138 saved after the warning SIGUSR1 (`interrupts.py`). `--traceback` shows where a one-line error came from. A
reader that goes away, such as `head`, does not stop the work; if standard output fails otherwise, the work is done and
the code is 2.
"""

import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import flags

from attention_variants import specs
from experiments import interrupts, streams

# What a user's mistake looks like by the time it reaches the main: SpecError and UnicodeError are ValueErrors; a folder
# that is missing, read-only or full is an OSError. Anything else is a bug of ours and keeps its traceback.
USAGE_ERRORS = (ValueError, NotImplementedError, OSError)


class UsageError(ValueError):
    """A command line that cannot be obeyed; the message is one line."""


def new_flags() -> flags.FlagValues:
    """Returns an empty set of flags for one main, with `--traceback` defined."""
    values = flags.FlagValues()
    flags.DEFINE_bool("traceback", False, "Show the Python traceback of an error.", flag_values=values)
    return values


def main(run: Callable[[], int | None], flag_values: flags.FlagValues) -> NoReturn:
    """Parses `sys.argv`, calls `run` and exits with its code; see the module's docstring."""
    interrupts.install()
    sys.exit(execute(run, flag_values))


def execute(run: Callable[[], int | None], flag_values: flags.FlagValues) -> int:
    """Does what `main` does, but leaves signals alone and returns the exit code."""
    with streams.steady() as out:
        code = _execute(run, flag_values)
        out.flush()
        if code == 0 and out.error is not None and not isinstance(out.error, BrokenPipeError):
            print(f"error: cannot write to standard output: {out.error.strerror}.", file=sys.stderr)
            return 2
        return code


def _execute(run: Callable[[], int | None], flag_values: flags.FlagValues) -> int:
    if {"-h", "--help", "-help"} & set(sys.argv[1:]):
        print(usage(run, flag_values))
        return 0
    try:
        parse(flag_values)
        return run() or 0
    except interrupts.WarnedError as warned:
        print(warned, file=sys.stderr)
        return interrupts.WARNED
    except USAGE_ERRORS as error:
        if flag_values.is_parsed() and flag_values["traceback"].value:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2


def parse(flag_values: flags.FlagValues) -> None:
    """Parses `sys.argv` into `flag_values`, forgetting what was parsed before.

    Raises:
      UsageError: an unknown flag, nearest valid ones first; a value of the wrong kind; a stray positional argument.
    """
    for name in flag_values:
        flag_values[name].unparse()
    try:
        positional = flag_values([sys.argv[0], *as_flags(sys.argv[1:], flag_values)])[1:]
    except flags.UnrecognizedFlagError as error:
        choices = [f"--{name}" for name in flag_values]
        raise UsageError(specs.unknown("flag", f"--{error.flagname}", choices)) from error
    except flags.Error as error:
        raise UsageError(_in_our_words(one_line(error))) from error
    if positional:
        raise UsageError(_unexpected(positional[0], flag_values))


def _in_our_words(message: str) -> str:
    """Returns absl's message about a value, without that of Python's conversion."""
    message = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"must be an integer; got \1", message)
    return re.sub(r"could not convert string to float: (.*)", r"must be a number; got \1", message)


def _unexpected(argument: str, flag_values: flags.FlagValues) -> str:
    if "study" not in flag_values or not os.path.isdir(argument):
        return f"unexpected argument {argument!r}; every option is a flag, such as --name=value."
    several = isinstance(flag_values["study"], flags.MultiFlag)
    return f"unexpected folder {argument!r}; " + (
        "folders stand before the flags." if several else "one folder stands before the flags."
    )


def as_flags(arguments: Sequence[str], flag_values: flags.FlagValues) -> list[str]:
    """Returns the arguments as absl can parse them.

    In mains with a flag --study, the folder of a study may come first, and several if the flag may be repeated.
    --config.a.b=value, or --config.a.b value, stands for --override=a.b=value in mains that have it.
    """
    rest, found = list(arguments), []
    if "study" in flag_values:
        several = isinstance(flag_values["study"], flags.MultiFlag)
        leading = list(itertools.takewhile(lambda argument: not argument.startswith("-"), rest))[
            : None if several else 1
        ]
        rest[: len(leading)] = [f"--study={folder}" for folder in leading]
    while rest:
        argument = rest.pop(0)
        stem = argument.lstrip("-")
        if "override" in flag_values and argument.startswith("-") and stem.startswith("config."):
            if "=" not in stem and rest and not rest[0].startswith("--"):
                stem = f"{stem}={rest.pop(0)}"
            argument = f"--override={stem.removeprefix('config.')}"
        found.append(argument)
    return found


def usage(run: Callable[[], int | None], flag_values: flags.FlagValues) -> str:
    """Returns the text of `--help`: what the main is for, and its flags."""
    lines = [(sys.modules[run.__module__].__doc__ or "").strip(), "", "Flags:"]
    for name in sorted(flag_values):
        flag = flag_values[name]
        default = "" if flag.default is None else f" (default: {flag.default_as_str})"
        lines.append(f"  --{name}: {' '.join((flag.help or '').split())}{default}")
    return "\n".join(lines)


def one_line(error: BaseException) -> str:
    """Returns the message of `error` on one line; its class name where there is no message."""
    return " ".join(str(error).split()) or type(error).__name__
