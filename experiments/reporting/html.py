"""The report of a study: one page that needs no other file, and its pictures as PNG and SVG next to it."""

from collections.abc import Mapping
from pathlib import Path
from string import Template

from experiments.reporting import tables
from experiments.reporting.columns import size_marks
from experiments.reporting.figures import layout, registry
from experiments.reporting.page import assets
from experiments.reporting.page.details import runs_of_rows
from experiments.reporting.page.markup import definitions, spec, text
from experiments.reporting.page.pictures import figure
from experiments.reporting.page.table import results_table
from experiments.reporting.pictures import write_pictures
from experiments.reporting.text import describe_environment, listed, plural
from experiments.studies.results import Study, read_study
from experiments.studies.rows import Row
from experiments.studies.whole_files import write_file


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Writes report.html and the pictures of the study in `folder`, by default there; returns the path of report.html.

    Raises:
      ValueError: there is no such study, or none of its runs has ended.
      StorageError: the files cannot be written.
    """
    study, output = read_study(folder), Path(output or folder)
    pictures = write_pictures(study, output)
    path = output / "report.html"
    write_file(path, page(study, pictures))
    return path


def page(study: Study, pictures: Mapping[str, bytes]) -> str:
    """Returns the page; `pictures` are SVG files by name of the figure.

    The style sheet and script are the same for every study, and all that the page may use: it names their digests.
    """
    known, anchors = registry.pictures(study), _anchors(study)
    style_sheet, script = assets.style_sheet(), assets.script(assets.PARTS / "report.js")
    return Template((assets.PARTS / "report.html").read_text()).substitute(
        style=style_sheet,
        style_digest=assets.digest(style_sheet),
        script=script,
        script_digest=assets.digest(script),
        title=text(study.name),
        lede=_lede(study),
        facts=_facts(study),
        contents="".join(f'<li><a href="#{name}">{text(known[name].heading)}</a></li>' for name in pictures),
        table=results_table(study, anchors),
        notes="\n".join(f"<p>{text(note)}</p>" for note in tables.notes(study)),
        figures="\n".join(figure(name, known[name], svg, study, anchors) for name, svg in pictures.items()),
        runs=runs_of_rows(study, anchors),
        config=_config(study),
        environment=_environment(study),
        commands="\n".join(text(command) for command in study.commands),
    )


def _anchors(study: Study) -> dict[str, Row]:
    """Returns the rows by anchor; for rows with the same config, marks in pictures lead to the first."""
    found: dict[str, Row] = {}
    for row in study.rows:
        name = layout.anchor(row)
        while name in found:
            name += "x"
        found[name] = row
    return found


def _lede(study: Study) -> str:
    """Says in a sentence what was compared, and where models differ in more than that."""
    seeds = sorted({row.ended for row in study.rows})
    runs = plural(seeds[0], "run") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} runs"
    tasks = listed(f"<code>{spec(task)}</code>" for task in study.by_task)
    models, number = len(study.models), len(study.by_task)
    where = f"on {tasks}" if number == 1 else f"on each of {number} tasks: {tasks}"
    if models == 1:
        return f"One model, {runs}, {where}."
    varied = listed(["attention", *(f"<code>{text(key)}</code>" for key in study.of_models)])
    sizes = [f"{mark} {text(words)}" for mark, words in size_marks(study).items()]
    differ = f"differ in {varied} and, where marked, in size ({listed(sizes)})" if sizes else f"differ only in {varied}"
    return f"{models} models that {differ}, {runs} each, {where}."


def _facts(study: Study) -> str:
    days = " to ".join(dict.fromkeys(date[:10] for date in study.dates))
    facts = [days, *map(describe_environment, study.environments)]
    return " &middot; ".join(text(fact) for fact in facts if fact)


def _config(study: Study) -> str:
    """Returns a table of what all rows share, and of what varies, field by field."""
    keys = dict.fromkeys(key for row in study.rows for key in row.config)
    values = {key: list(dict.fromkeys(str(row.config.get(key)) for row in study.rows)) for key in keys}
    return definitions({key: f"<em>{len(v)} values</em>" if len(v) > 1 else text(v[0]) for key, v in values.items()})


def _environment(study: Study) -> str:
    environments = [result.get("environment", {}) for row in study.rows for result in row.results]
    keys = dict.fromkeys(key for environment in environments for key in environment)
    values = {key: dict.fromkeys(str(environment.get(key, "")) for environment in environments) for key in keys}
    return definitions({key: text(" / ".join(found)) for key, found in values.items()})
