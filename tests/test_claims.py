"""README.md and docs/studies.md say of the studies what the committed results say, sentence by sentence."""

import functools
import pathlib
import re

import pytest

from tests.claims import (
    bottleneck,
    encoders,
    flags,
    frontier,
    heads,
    in_context,
    languages,
    layers,
    mad,
    open_gates,
    positions,
    questions,
    readme,
    recall,
    studies,
)
from tests.claims.scores import Claim, Scores

ROOT = pathlib.Path(__file__).parent.parent
CLAIMS = {
    "README.md": readme.CLAIMS,
    "docs/studies.md": [
        *studies.CLAIMS,
        *frontier.CLAIMS,
        *open_gates.CLAIMS,
        *languages.CLAIMS,
        *mad.CLAIMS,
        *recall.CLAIMS,
        *positions.CLAIMS,
        *bottleneck.CLAIMS,
        *encoders.CLAIMS,
        *layers.CLAIMS,
        *heads.CLAIMS,
        *in_context.CLAIMS,
        *questions.CLAIMS,
        *flags.CLAIMS,
    ],
}


def plain(page: str) -> str:
    """Returns what a page says, without links, tables, pictures and line breaks."""
    text = re.sub(r"<!-- (\w+): begin -->.*?<!-- \1: end -->", "", (ROOT / page).read_text(), flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text).replace("**", "")
    return " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).split())


@functools.cache
def scores(study: str) -> Scores:
    return Scores(study)


@pytest.mark.parametrize(
    ("page", "claim"),
    [pytest.param(page, claim, id=claim.quote[:50]) for page, claims in CLAIMS.items() for claim in claims],
)
def test_what_a_page_claims_is_so(page: str, claim: Claim) -> None:
    assert claim.quote in plain(page), "the page says something else: change the claim with it"
    assert claim.holds(scores(claim.study)), "the results say something else: change the page"


def test_every_number_of_the_studies_is_claimed() -> None:
    text = plain("docs/studies.md")
    for claim in CLAIMS["docs/studies.md"]:
        text = text.replace(claim.quote, "")
    text = re.sub(r"jax [\d.]+|Python [\d.]+|rates? 0\.\d+|against 0\.\d+ by", "", text)
    assert re.findall(r"[^.]*\b[01]\.\d+[^.]*", text) == []


# What a table says of a row beside its score, and how a section that quotes the table may take it up.
FLAGS = {
    "chosen at the edge of what was tried": (
        lambda row: any(choice.edge for choice in row.choices),
        r"\bedge\b|is the larger (of the two|in every row)",
    ),
    "still improving": (lambda row: row.still_improving, r"still improving"),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_section_has_a_word_about_rows_that_its_table_flags(flag: str) -> None:
    flagged, word = FLAGS[flag]
    sections = re.findall(r"## (\w+): (.*?)(?=\n## |\Z)", (ROOT / "docs/studies.md").read_text(), flags=re.DOTALL)
    assert len(sections) > 15
    silent = [name for name, text in sections if not re.search(word, text) and any(map(flagged, scores(name).rows()))]
    assert silent == []
