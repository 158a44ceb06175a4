"""Writes docs/variants.md and its pictures from the registered variants.

python docs/variants_page.py            writes
python docs/variants_page.py --check    exit code 1 if the page or a picture is not current

A picture is `dense_weights` of one head on a fixed random input of 16 tokens: rows are queries, columns are keys, blue
is positive, orange negative, each row relative to its largest weight. Several writes of a token are summed. Grey is
what the pattern never shows.
"""

import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
PAGE, PICTURES = ROOT / "docs" / "variants.md", ROOT / "docs" / "variants"

LENGTH, HEAD_DIM, MODEL_DIM = 16, 8, 24
LEVELS = 12  # shades; few, so that the last bits of another machine rarely show


def shown(name: str) -> str:
    """Returns the spec that is drawn: one at which 16 tokens show what is special."""
    from attention_variants.registry import example_spec

    return example_spec(name, LENGTH)


_HEAD = """# The catalogue

Every attention variant that is registered, as `python -m experiments.run --list_variants` prints it. `make pages`
generates this page from the code, and a test fails when it is out of date.

The pictures are `dense_weights` of one head on the same 16 random tokens: rows are queries, columns are keys; blue is
positive, orange negative, the darkest of each row its largest. Where a token writes more than once, a cell is the sum.
Grey cells are never seen. A variant that is both causal and bidirectional is drawn causal. *Drawn* gives settings small
enough to show at 16 tokens.

Costs are orders per head and layer, `length` being that of the sequence, for values about as wide as keys; the state
is what decoding carries. *cross* can attend to another sequence, *bias* can carry ALiBi or T5's bias. Where *RoPE
stays relative*, moving all positions alike changes no output; elsewhere a rotation also tells features, decays or
hashes where a token stands.

*Paper's layer* is what `model.layer=paper` puts around the attention, see `LayerOptions`; where nothing is named, the
paper puts nothing there that the plain layer lacks.
"""


def page() -> str:
    """Returns the text of docs/variants.md."""
    from attention_variants.interface import FAMILIES
    from experiments.reporting import listings

    parts, found = [_HEAD], listings.entries()
    for family in FAMILIES:
        members = [entry for entry in found if entry.family == family]
        if members:
            parts.append(f"\n## {family[0].upper()}{family[1:]}\n")
            parts.append("| picture | variant | cost | state | can | paper |\n| --- | --- | --- | --- | --- | --- |")
            parts += [_row(entry) for entry in members]
    return "\n".join(parts) + "\n"


def _row(entry) -> str:  # type: ignore[no-untyped-def]
    drawn = shown(entry.name)
    picture = f'<img src="variants/{entry.name}.svg" width="120" alt="weights of {drawn}">'
    fields = entry.spec.partition(":")[2].replace(",", ", ")
    name = f"**`{entry.name}`**" + (f"<br>`{fields}`" if fields else "") + f"<br>{entry.summary}"
    if drawn != entry.name:
        name += f"<br>Drawn: `{drawn.partition(':')[2].replace(',', ', ')}`"
    if entry.layer:
        name += f"<br>Paper's layer: `{entry.layer.replace(',', ', ')}`"
    paper = re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", entry.paper)
    return f"| {picture} | {name} | {entry.cost_order} | {entry.state_order} | {entry.capabilities} | {paper} |"


def shades(name: str) -> np.ndarray:
    """Returns a variant's picture: int [query, key] from -LEVELS to LEVELS, and LEVELS + 1 where nothing is seen."""
    from flax import nnx

    from attention_variants.interface import HeadSizes
    from attention_variants.registry import make_variant

    variant = make_variant(shown(name))
    random = np.random.RandomState(0)
    query, key = (jnp.asarray(random.standard_normal((1, LENGTH, 1, HEAD_DIM)), jnp.float32) for _ in range(2))
    x = jnp.asarray(random.standard_normal((1, LENGTH, MODEL_DIM)), jnp.float32)
    module = variant.make_controls(MODEL_DIM, HeadSizes(1, 1, HEAD_DIM, HEAD_DIM), rngs=nnx.Rngs(0))
    causal = variant.supports_causal
    controls = None if module is None else module(x)
    weights = np.asarray(variant.dense_weights(query, key, causal=causal, controls=controls))[0, 0]
    weights = weights.reshape(LENGTH, LENGTH, variant.writes_per_token).sum(axis=2)
    largest = np.abs(weights).max(axis=1, keepdims=True)
    levels = np.rint(LEVELS * weights / np.where(largest == 0, 1, largest)).astype(int)
    return np.where(variant.pattern(LENGTH, LENGTH, causal), levels, LEVELS + 1)


def picture(levels: np.ndarray) -> str:
    """Returns the SVG of `shades`: one path of unit squares for every shade."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LENGTH} {LENGTH}" stroke="#fff" stroke-width=".1">'
    ]
    for level in np.unique(levels):
        squares = "".join(f"M{column} {row}h1v1h-1z" for row, column in np.argwhere(levels == level))
        lines.append(f'<path fill="{_colour(level)}" d="{squares}"/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _colour(level: int) -> str:
    if level > LEVELS:
        return "#e4e7eb"
    white, full = np.array([255, 255, 255]), np.array([0, 84, 166]) if level >= 0 else np.array([213, 94, 0])
    share = 0.08 + 0.92 * abs(level) / LEVELS  # the faintest is seen, unlike grey
    red, green, blue = np.rint(white + share * (full - white)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def same_picture(one: str, two: str) -> bool:
    """Returns whether two pictures differ by no more than one shade in any cell: what rounding may do."""
    first, second = (_read_levels(text) for text in (one, two))
    outside = LEVELS + 1
    same = np.array_equal(first == outside, second == outside)
    return same and bool((np.abs(first - second) <= 1).all())


def _read_levels(text: str) -> np.ndarray:
    shade = {_colour(level): level for level in range(-LEVELS, LEVELS + 2)}
    levels = np.full((LENGTH, LENGTH), 10 * LEVELS)  # unlike any other picture where a cell is missing
    for colour, squares in re.findall(r'fill="(#\w+)" d="([^"]*)"', text):
        for column, row in re.findall(r"M(\d+) (\d+)", squares):
            levels[int(row), int(column)] = shade.get(colour, 10 * LEVELS)
    return levels


def stale() -> list[str]:
    """Returns the names of files that are not current."""
    from attention_variants.registry import VARIANTS

    found = [] if PAGE.exists() and PAGE.read_text() == page() else [PAGE.name]
    for name in VARIANTS:
        path = PICTURES / f"{name}.svg"
        if not path.exists() or not same_picture(path.read_text(), picture(shades(name))):
            found.append(path.name)
    return found + [path.name for path in sorted(PICTURES.glob("*.svg")) if path.stem not in VARIANTS]


def main() -> int:
    """Runs the command line; returns the exit code."""
    from attention_variants.registry import VARIANTS

    jax.config.update("jax_platforms", "cpu")
    if "--check" in sys.argv[1:]:
        print("\n".join(stale()) or "current")
        return 1 if stale() else 0
    PICTURES.mkdir(exist_ok=True)
    for path in PICTURES.glob("*.svg"):
        if path.stem not in VARIANTS:
            path.unlink()
    for name in VARIANTS:
        path, new = PICTURES / f"{name}.svg", picture(shades(name))
        if not path.exists() or not same_picture(path.read_text(), new):
            path.write_text(new)
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
