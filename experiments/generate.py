"""Decodes a trained run token by token, with its cache: answers, time per token, bytes of state.

    python -m experiments.generate results/quickstart/6977458a702b
    python -m experiments.generate results/quickstart/6977458a702b --rows=1 --top=5 --temperature=0.7 --seed=1
    python -m experiments.generate results/quickstart/6977458a702b --tokens='k7 v91 k3 v90 . . k3' --new_tokens=1

It decodes --rows rows of the task, or what follows --tokens. Where a row continues with its answers, as in copying,
answers are scored twice: with the right ones fed back, as in training, and with the model's own. All logits are checked
against the parallel pass. docs/decoding.md says more.
"""

from absl import flags

from attention_variants.checks import check_number
from experiments import cli, runtime
from experiments.config.run import Run
from experiments.decoding import tables
from experiments.decoding.prompts import read_tokens
from experiments.decoding.session import TOLERANCES, Session
from experiments.reporting.text import describe_environment, plural
from experiments.studies.trained import open_run, trained_model

FLAGS = cli.new_flags()
_RUN = flags.DEFINE_string("study", None, "Folder of a run; may come first, without the flag.", flag_values=FLAGS)
_ROWS = flags.DEFINE_integer("rows", 64, "Rows of the task to decode at once.", 1, 4096, flag_values=FLAGS)
_ROW = flags.DEFINE_integer("row", 0, "The row whose answers are listed.", lower_bound=0, flag_values=FLAGS)
_TOKENS = flags.DEFINE_string(
    "tokens",
    None,
    "Tokens to continue in place of rows, separated by blanks or commas: as experiments.show_task prints them, or ids.",
    flag_values=FLAGS,
)
_NEW = flags.DEFINE_integer("new_tokens", 16, "Tokens to generate after --tokens.", 1, 2**16, flag_values=FLAGS)
_TOP = flags.DEFINE_integer("top", 3, "Likeliest answers to list, with their probabilities.", 1, 100, flag_values=FLAGS)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", 0.0, "Draw answers from softmax(logits / temperature); 0: take the likeliest.", flag_values=FLAGS
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of drawn answers.", 0, 2**31 - 1, flag_values=FLAGS)
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    None,
    "How far decoded logits may be from those of the parallel pass, as a share of the largest logit; by default 0.001, "
    "or 0.05 for a model in bfloat16.",
    flag_values=FLAGS,
)


def run() -> None:
    """Prints answers, accuracies, the check, times and state."""
    if not _RUN.value:
        raise cli.UsageError("name the folder of a run, such as results/quickstart/6977458a702b.")
    _check_flags()
    runtime.check_device()
    opened = open_run(_RUN.value)
    tokens = None if _TOKENS.value is None else read_tokens(_TOKENS.value, opened.task)
    tolerance = TOLERANCES[opened.train.dtype] if _TOLERANCE.value is None else _TOLERANCE.value
    session = Session(
        run=opened,
        model=trained_model(_RUN.value, opened),
        temperature=_TEMPERATURE.value,
        seed=_SEED.value,
        tolerance=tolerance,
    )
    listing = tables.Listing(opened.task, _TOP.value, _TEMPERATURE.value)
    if tokens is not None:
        on_tokens = session.on_tokens(tokens, _NEW.value)
        costs, difference, parts = on_tokens.costs, on_tokens.difference, [tables.tokens_text(on_tokens, listing)]
    else:
        on_rows = session.on_rows(_ROWS.value)
        costs, difference = on_rows.costs, on_rows.difference
        parts = [tables.scores_text(on_rows), tables.row_text(on_rows, _ROW.value, listing)]
    where = describe_environment(runtime.environment())
    parts = [_title(opened), *parts, tables.check_text(difference, tolerance), tables.costs_text(costs), where]
    print("\n\n".join(parts))


def _check_flags() -> None:
    """Raises UsageError for flags of the other way, and ValueError for numbers out of range."""
    ways = {"rows": "task rows", "row": "task rows", "new_tokens": "--tokens"}
    way = "task rows" if _TOKENS.value is None else "--tokens"
    for name, of in ways.items():
        if FLAGS[name].present and of != way:
            raise cli.UsageError(f"--{name} is for decoding {of}; this is decoding {way}.")
    if way == "task rows" and _ROW.value >= _ROWS.value:
        raise cli.UsageError(f"--row must be one of the {_ROWS.value} rows, from 0; got {_ROW.value}.")
    check_number("--temperature", _TEMPERATURE.value, 0.0, 1000.0)
    if _TOLERANCE.value is not None:
        check_number("--tolerance", _TOLERANCE.value, 0.0, 1.0)


def _title(opened: Run) -> str:
    how = f"drawn at temperature {_TEMPERATURE.value:g}, seed {_SEED.value}" if _TEMPERATURE.value else "the likeliest"
    what = plural(_ROWS.value, "row") if _TOKENS.value is None else "given tokens"
    return f"{opened.model.attention} on {opened.config.task}, seed {opened.seed}: {what}; answers are {how}"


if __name__ == "__main__":
    cli.main(run, FLAGS)
