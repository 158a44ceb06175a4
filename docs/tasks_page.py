"""Writes docs/tasks.md from the registered tasks.

python docs/tasks_page.py            writes
python docs/tasks_page.py --check    exit code 1 if the page is not current
"""

import inspect
import json
import pathlib
import sys
import textwrap

import jax

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs" / "tasks.md"
REPEATED = ROOT / "results" / "reference" / "repeated_rows" / "shares.json"

_HEAD = """# The tasks

Every registered task, as its own documentation describes it. A **floor** is what a shortcut scores, computed from the
task's fields; tables print the highest one next to every score, with the ceiling of what the model can see. To see rows
in colour with the evidence marked:

    python -m experiments.show_task --task=mqar:length=32,num_pairs=4

`make pages` generates this page from the code, and a test fails when it is out of date.

## Test rows that training has shown

{repeated}

## All tasks
"""

_REPEATED = (
    "Short strings repeat. At the default settings this share of 2,048 test rows stands among the 64,000 rows of 1,000 "
    "training steps as well, drawn apart but equal: {shares}. All other tasks: below 1 %. A score there is partly one "
    "of memory, so tables also give the accuracy on unseen rows. Measured by "
    "`python docs/repeated_rows.py`, seed 0, jax {jax}."
)


def page() -> str:
    """Returns the text of docs/tasks.md."""
    from experiments.tasks.registry import TASKS

    index = [
        f"- [`{name}`](#{name}): {kind.summary.partition(': ')[2] or kind.summary}" for name, kind in TASKS.items()
    ]
    return "\n".join([_HEAD.format(repeated=_repeated()), *index, *(_section(name) for name in TASKS)]) + "\n"


def _repeated() -> str:
    measured = json.loads(REPEATED.read_text())
    shares = sorted(measured["shares"].items(), key=lambda item: -item[1])
    named = ", ".join(f"`{name}` {share:.1%}" for name, share in shares if share >= 0.01)
    return textwrap.fill(_REPEATED.format(shares=named, jax=measured["jax"]), 120, break_on_hyphens=False)


def _section(name: str) -> str:
    from experiments.reporting.listings import fields_text, floors_text, sizes_text
    from experiments.tasks.registry import TASKS

    task = TASKS[name]()
    batch = jax.eval_shape(lambda: task.sample(jax.random.key(0), 1))
    scored = batch.targets.shape[1]
    facts = [
        f"`{name}{fields_text(type(task))}`",
        f"{sizes_text(task)}, {scored} scored; slices: " + ", ".join(f"`{slice_name}`" for slice_name in batch.slices),
        f"Floors: {', '.join(floors_text(task))}",
    ]
    return "\n".join(
        ["", f"## {name}", "", *(f"- {fact}" for fact in facts), "", _markdown(inspect.getdoc(type(task)) or "")]
    )


def _markdown(docstring: str) -> str:
    """Turns a docstring's literal blocks into code blocks, and its references into a paragraph."""
    paragraphs, out, literal = docstring.split("\n\n"), [], False
    for paragraph in paragraphs:
        if literal and paragraph.startswith("    "):
            code = textwrap.dedent(paragraph)
            if out[-1].startswith("```"):  # the same block continues after an empty line
                out[-1] = out[-1].removesuffix("\n```") + f"\n\n{code}\n```"
            else:
                out.append(f"```text\n{code}\n```")
            continue
        literal = paragraph.endswith("::")
        if paragraph.startswith("References:"):
            paragraph = "Reference: " + " ".join(paragraph.removeprefix("References:").split())
        out.append(paragraph.removesuffix("::") + ":" * literal)
    return "\n\n".join(out)


def main() -> int:
    """Runs the command line; returns the exit code."""
    jax.config.update("jax_platforms", "cpu")
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.exists() and PAGE.read_text() == page() else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
