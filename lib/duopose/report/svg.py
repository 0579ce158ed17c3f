"""matplotlib figures as SVG elements of a page, in the page's colours."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from duopose.report.theme import FAINT, GRID, INK, colour_variables

# Text stays text, so that it can be searched and takes the page's font; names from files are no
# formulas; the same figure gives the same bytes.
RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "duopose",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.image_inline": True,
}
SVG_ELEMENT = re.compile(r"<svg.*</svg>", re.DOTALL)
# matplotlib's style sheet would apply to the whole page (theme.STYLE has its content); its fonts
# would replace the page's.
REMOVED = re.compile(
    r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|font-family: [^;\"]+;? ?",
    re.DOTALL,
)
COORDINATES = re.compile(r' (?:d|x|y|transform|points)="[^"]*"')
IDS = re.compile(r'(\bid="|url\(#|href="#)')
XLINK = "xlink:href"
NUMBERS = re.compile(r"\d+\.\d{3,}")
MAX_COLUMNS = 3
DECIMALS = 2  # of coordinates, in 1/72 inch


def draw_grid(
    draw: list[Callable[[Axes], None]],
    description: str,
    size: tuple[float, float] = (4.0, 3.3),
    columns: int = MAX_COLUMNS,
    sharey: bool = False,
) -> str:
    """One panel for each function, as an SVG element. size: inches of a panel."""
    columns = min(columns, len(draw))
    rows = -(-len(draw) // columns)
    with mpl.rc_context(RC):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey).reshape(-1)
        for one, panel in zip(axes, draw, strict=False):
            panel(one)
        for unused in axes[len(draw) :]:
            unused.set_axis_off()
        return embed(figure, description)


def embed(figure: Figure, description: str) -> str:
    """The figure as an <svg> element with a description for readers who cannot see it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    found = SVG_ELEMENT.search(buffer.getvalue())
    assert found is not None
    text = REMOVED.sub("", found[0])

    # Several figures of a page must not share the names of their parts.
    prefix = f"f{hashlib.sha256(text.encode()).hexdigest()[:8]}-"
    text = IDS.sub(rf"\g<1>{prefix}", text)
    text = text.replace(XLINK, "href")
    text = COORDINATES.sub(lambda attribute: _shortened(attribute[0]), text)
    for colour, value in colour_variables().items():
        text = text.replace(colour, value)
    label = escape(description, quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _shortened(coordinates: str) -> str:
    """With fewer decimals."""
    return NUMBERS.sub(lambda number: f"{float(number[0]):.{DECIMALS}f}", coordinates)
