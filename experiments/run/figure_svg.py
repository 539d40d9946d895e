"""A figure of Matplotlib as an SVG that is part of a page and takes its colours.

Matplotlib because the project has it already, and because a drawing without a script is read
anywhere; its SVG is text, in which colours that stand for the page's are replaced by them. So one
drawing serves a light page and a dark one.
"""

import io
import re
import warnings
from typing import Any

import matplotlib
import matplotlib.figure

COLOURS = {
    "#a10001": "var(--series-1)",
    "#a10002": "var(--series-2)",
    "#a10003": "var(--series-3)",
    "#a10004": "var(--series-4)",
    "#a10010": "var(--ink)",
    "#a10011": "var(--muted)",
    "#a10012": "var(--line)",
    "#a10013": "var(--surface)",
}
"""What stands in a drawing for a colour of the page."""

SERIES = ("#a10001", "#a10002", "#a10003", "#a10004")
INK, MUTED, LINE, SURFACE = "#a10010", "#a10011", "#a10012", "#a10013"

_STYLE: Any = {
    "svg.fonttype": "none",  # Text stays text: it is selected, searched and read aloud.
    "text.parse_math": False,  # Names of columns are no formulas.
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def figure_of(
    height: float, columns: int = 1, width: float = 9.0
) -> tuple[matplotlib.figure.Figure, Any]:
    """A figure, in inches, and its axes, side by side; within :func:`styled`."""
    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def styled() -> Any:
    """The style of all drawings, as a context: figures are made and written within it."""
    return matplotlib.rc_context(_STYLE)


def svg_of(figure: matplotlib.figure.Figure, name: str, label: str) -> str:
    """The ``<svg>`` of a figure, for a page.

    Args:
      figure: made within :func:`styled`.
      name: unique on its page; begins the ids in it.
      label: what is seen, for those who do not see it; no markup.
    """
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # The salt: the same ids at every run. A browser has letters that Matplotlib's font lacks.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Between tags are the names of columns, which stay as they are.
    text = re.sub(r"<[^>]*>", lambda tag: _of_page(tag[0], name), text)
    # It fills its column, in its own proportions.
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _of_page(tag: str, name: str) -> str:
    """A tag in the page's colours and font, whose ids begin with the figure's name."""
    for stands, colour in COLOURS.items():
        tag = tag.replace(stands, colour)
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r'href="#', f'href="#{name}-', tag)
    tag = re.sub(r"url\(#", f"url(#{name}-", tag)
    return re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", tag)
