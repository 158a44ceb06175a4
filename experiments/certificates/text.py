"""Outcomes of certificates as text, Markdown and JSON."""

import json
from collections.abc import Sequence
from typing import Any

from experiments.certificates.certificate import REFERENCE, Certificate, Outcome
from experiments.reporting.text import aligned

_HEADING = ("", "published", "obtained", "tolerance", "holds")


def listing(certificates: Sequence[Certificate]) -> str:
    """Returns a line for each certificate: its name, how it is made, and its claim."""
    rows = [(each.name, f"runs of {each.study}" if each.study else "computed", each.claim) for each in certificates]
    return aligned(rows, left=3)


def as_text(outcome: Outcome) -> str:
    """Returns an outcome for a terminal."""
    table = aligned([_HEADING, *_lines(outcome)], left=len(_HEADING))
    about = outcome.certificate
    head = [f"{about.name}: {outcome.verdict}", about.claim, f"Source: {about.source}", f"Here: {about.configuration}"]
    runs = [f"Runs: {outcome.folder}, {outcome.runs}"] if outcome.folder else []
    return "\n".join([*head, *runs, table])


def as_markdown(outcomes: Sequence[Outcome], environment: str) -> str:
    """Returns a page: a line for each certificate, then each with its checks."""
    counts = {verdict: sum(each.verdict == verdict for each in outcomes) for verdict in _verdicts(outcomes)}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    lines = [
        "# Published results, and what this code gives",
        "",
        f"{len(outcomes)} certificates: {summary}. `python -m experiments.reproduce --all` makes them; {environment}.",
        "",
        "| certificate | claim | verdict |",
        "| --- | --- | --- |",
        *(f"| [{o.certificate.name}](#{o.certificate.name}) | {o.certificate.claim} | {o.verdict} |" for o in outcomes),
    ]
    for outcome in outcomes:
        about = outcome.certificate
        study = f" Runs: {outcome.runs}{_place(outcome)}." if outcome.folder else ""
        lines += ["", f"## {about.name}", "", f"{about.claim} *{about.source}.*", ""]
        lines += [f"{about.configuration}{study}", "", f"Verdict: **{outcome.verdict}**.", ""]
        lines += [f"| {' | '.join(_HEADING)} |", "| --- | ---: | ---: | ---: | --- |"]
        lines += [f"| {' | '.join(line)} |" for line in _lines(outcome)]
    return "\n".join(lines) + "\n"


def as_json(outcomes: Sequence[Outcome], environment: dict[str, Any]) -> str:
    """Returns outcomes with the environment in which they were made."""
    found = [
        {
            **{
                field: getattr(each.certificate, field)
                for field in ("name", "claim", "source", "configuration", "study")
            },
            "runs": each.runs,
            "verdict": each.verdict,
            "checks": [check._asdict() for check in each.checks],
        }
        for each in outcomes
    ]
    return json.dumps({"environment": environment, "certificates": found}, indent=1) + "\n"


def _place(outcome: Outcome) -> str:
    """Returns where the runs of an outcome are, for a page beside the results that come with the code."""
    known = outcome.folder is not None and outcome.folder.parent == REFERENCE
    return f", [{outcome.certificate.study}](../reference/{outcome.certificate.study})" if known else ""


def _verdicts(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(sorted(each.verdict for each in outcomes)))[::-1]


def _lines(outcome: Outcome) -> list[tuple[str, ...]]:
    return [
        (check.what, check.published, check.obtained, check.tolerance or "-", "yes" if check.holds else "no")
        for check in outcome.checks
    ]
