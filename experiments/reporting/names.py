"""What a user may call a model, a column or a field, and which one is meant."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from attention_variants import specs
from experiments.studies.results import Study

_PREFIX = "conv+"  # most models begin with a convolution, and names may leave it out
_MOST = 8  # names in a message


def find_model(study: Study, name: str) -> str:
    """Returns the model of a study that `name` names: by its label or attention, with or without `conv+` and fields.

    Raises:
      ValueError: no model matches, nearest ones first, or several do.
    """
    spelled = {model: _spellings(model, study) for model in study.models}
    for place in range(len(next(iter(spelled.values())))):
        found = [model for model, spellings in spelled.items() if spellings[place] == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"--compare={name} names {len(found)} models; write one of {', '.join(map(repr, found))}.")
    raise specs.SpecError(
        f"--compare: {specs.unknown('model', name, [spellings[1] for spellings in spelled.values()])}"
    )


def find_models(study: Study, patterns: str, flag: str = "--rows") -> set[str]:
    """Returns the models that any of `patterns`, separated by `|`, names or matches as a glob.

    Args:
      study: whose models.
      patterns: as the user wrote them.
      flag: for which they were given, for messages.

    Raises:
      SpecError: one of them names no model; the nearest ones first.
    """
    spelled = {model: _spellings(model, study) for model in study.models}
    found: set[str] = set()
    for pattern in (each.strip() for each in patterns.split("|")):
        named = {model for model, names in spelled.items() if any(fnmatchcase(name, pattern) for name in names)}
        if not named:
            names = [spellings[1] for spellings in spelled.values()]
            between = " Write | between models." if "," in pattern else ""
            raise specs.SpecError(f"{flag}: {specs.unknown('model', pattern, names)}{between}")
        found |= named
    return found


def _spellings(model: str, study: Study) -> list[str]:
    """Returns what may name a model, the most exact first."""
    attention = next(row.attention for row in study.rows if study.model(row) == model)
    plain = "+".join(part.partition(":")[0] for part in specs.split_layers(attention))
    return [text for whole in (model, attention, plain) for text in (whole, whole.removeprefix(_PREFIX))]


def find(flag: str, kind: str, word: str, names: Mapping[str, Iterable[str]]) -> str:
    """Returns which of `names` a word means: the name itself, another name for it, or the beginning of one of them.

    Blanks and underscores are equivalent, and case is ignored.

    Args:
      flag: for which it was given, for messages.
      kind: the noun for messages, such as "column".
      word: as the user wrote it.
      names: each with its other names.

    Raises:
      SpecError: none has that name, nearest ones first, or several begin with it.
    """
    if (exact := known(word, names)) is not None:
        return exact
    begin = [name for name, others in names.items() if any(_plain(n).startswith(_plain(word)) for n in (name, *others))]
    if len(begin) == 1 and _plain(word):
        return begin[0]
    if begin and _plain(word):
        raise specs.SpecError(f"{flag}: {word!r} begins several names: {specs.listed(begin, _MOST)}.")
    every = {other: name for name, others in names.items() for other in (*others, name)}
    nearest = list(dict.fromkeys(every[name] for name in specs.nearest_first(word, every)))
    raise specs.SpecError(
        f"{flag}: unknown {kind} {word!r}; valid choices, nearest first: {specs.listed(nearest, _MOST)}."
    )


def known(word: str, names: Mapping[str, Iterable[str]]) -> str | None:
    """Returns which of `names` a word is, or is another name for; None unless there is exactly one."""
    if word in names:
        return word
    found = [name for name, others in names.items() if _plain(word) in map(_plain, (name, *others))]
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return name.strip().replace(" ", "_").lower()
