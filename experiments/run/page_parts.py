"""What a page is made of: its looks, what a browser is told to refuse, figures and tables."""

from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure

from experiments.run.figure_svg import svg_of

CSS = """
:root { color-scheme: light dark;
  --surface: #ffffff; --raised: #f5f6f8; --ink: #1b1f24; --muted: #5a6470; --line: #d9dde3;
  --series-1: #2563c9; --series-2: #c2570c; --series-3: #14805e; --series-4: #8b3fc0; }
@media (prefers-color-scheme: dark) { :root {
  --surface: #14171b; --raised: #1d2127; --ink: #e8eaed; --muted: #a0a8b3; --line: #363c45;
  --series-1: #6ea3f7; --series-2: #f0955a; --series-3: #4cc49a; --series-4: #c792ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--surface);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p { margin: .25rem 0 .75rem; } .muted, figcaption, caption { color: var(--muted); }
figure { margin: 0 0 1rem; overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 40rem; height: auto; }
figure.narrow svg { max-width: 40rem; min-width: 26rem; }
figcaption { font-size: .9rem; max-width: 46rem; }
.tiles { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr));
  margin: 1.25rem 0; padding: 0; }
.tiles div { background: var(--raised); border-radius: .5rem; padding: .75rem 1rem; }
.tiles dt { color: var(--muted); font-size: .85rem; } .tiles dd { margin: 0; }
.tiles dd.figure { font-size: 1.5rem; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
th, td { padding: .3rem .75rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--muted);
  font-weight: 500; } tbody th { font-weight: 500; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--muted); }
pre { background: var(--raised); border-radius: .5rem; padding: .75rem 1rem; overflow-x: auto;
  font-size: .85rem; }
.warning { border-left: .25rem solid var(--series-2); padding: .25rem .75rem; }
@media print { details > * { display: block; } body { max-width: none; } }
"""

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content security policy: nothing is loaded, and no script runs."""


def page(title: str, parts: Sequence[str]) -> str:
    """The whole page of a title, which is no markup, and parts, which are."""
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>",
            f"<h1>{escape(title)}</h1>",
            *parts,
            "</body>\n</html>\n",
        ]
    )


def section(name: str, heading: str, caption: str, figure: Figure | None, under: str = "") -> str:
    """A figure with its heading and caption; nothing where there is no figure.

    Args:
      name: unique on the page.
      heading: no markup.
      caption: no markup.
      figure: made within ``figure_svg.styled``.
      under: markup that belongs under it.
    """
    if figure is None:
        return ""
    width = ' class="narrow"' if figure.get_figwidth() < 8 else ""
    return (
        f'<h2>{escape(heading)}</h2>\n<figure id="{name}"{width}>\n'
        f"{svg_of(figure, name, escape(f'{heading}. {caption}'))}"
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>\n{under}"
    )


def table(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is its head, and whose first column names the rows."""
    head, *rows = lines
    names = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{body}\n</tbody>\n'
        "</table></div>"
    )
