"""Style sheets and scripts of pages: real files, embedded in the page, which allows no others."""

import base64
import hashlib
from pathlib import Path

from experiments.reporting.figures.style import COLOURS, FAINT
from experiments.reporting.page.markup import colour_class

PARTS = Path(__file__).parent


def style_sheet(*further: Path) -> str:
    """Returns the style sheet that all pages share, and what one of them adds."""
    classes = [(colour_class(colour), colour) for colour in COLOURS] + [(colour_class(None), FAINT)]
    colours = "".join(f".{name}{{--own:{colour}}}" for name, colour in classes)
    shared = (PARTS / "report.css").read_text().replace("/* colours of the pictures */", colours)
    return "\n".join([shared, *(path.read_text() for path in further)])


def script(own: Path) -> str:
    """Returns the script that all pages share, and that of one page."""
    return f"{(PARTS / 'theme.js').read_text()}\n{own.read_text()}"


def digest(content: str) -> str:
    """Returns what a content security policy calls an inline style sheet or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
