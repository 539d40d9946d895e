"""A figure of Matplotlib as an SVG that is part of a page and takes its colours.

Matplotlib because the project has it already, and because a drawing without a script is read
anywhere; its SVG is text, in which colours that stand for the page's are replaced by them. So one
drawing serves a light page and a dark one.
"""

import io
import re
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
    with matplotlib.rc_context({"svg.hashsalt": name}):  # The same ids at every run.
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue().decode()
    text = text[text.index("<svg") :]
    for stands, colour in COLOURS.items():
        text = text.replace(stands, colour)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    # It fills its column, in its own proportions.
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
