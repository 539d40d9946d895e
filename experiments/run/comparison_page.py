"""``DIR/report.html`` of a comparison: what its methods came to, on one page without a script.

No number is computed anew: all are those of ``compare.json``, as the command prints them.
"""

from collections.abc import Mapping
from html import escape
from typing import Any

from experiments.run import comparison_figures, comparison_report
from experiments.run.comparison_grid import BYTES, PARAMETERS, Grid, flag_of
from experiments.run.figure_svg import styled
from experiments.run.page_parts import page, section, table

NAME = "report.html"


def page_of(summary: Mapping[str, Any], grid: Grid, dataset: str) -> str:
    """The page, HTML.

    Args:
      summary: of ``comparison_report.summarise``.
      grid: what was compared.
      dataset: its name.
    """
    with styled():
        sections = [
            section(
                "size",
                "AUC and logloss against bytes",
                "Of test rows, the mean over the seeds; bars are a standard deviation of them. The "
                "full table is the plain model with every row and column. The band is the front: "
                "it runs through what no bundle as small or smaller equals.",
                comparison_figures.against_bytes(summary),
            ),
            "<h2>Methods and budgets</h2>",
            table(comparison_report.method_lines(summary)),
            _refused(summary),
            section(
                "differences",
                "OptEmbed less each rival",
                "Paired by seed, the mean and its 95 % interval: right of the line OptEmbed is "
                "ahead, and an interval over the line is a tie.",
                comparison_figures.differences(summary),
            ),
        ]
    pairs = comparison_report.difference_lines(summary)
    asked = [
        *(("--methods", ",".join(grid.methods)), ("--seeds", str(grid.seeds))),
        (f"--{flag_of(grid.counts)}", ",".join(f"{share:g}" for share in grid.shares)),
        *(tuple(flag.partition("=")[::2]) for flag in grid.given),
    ]
    told = "; or ".join(
        ", ".join(f"{name} {version}" for name, version in versions.items())
        for versions in summary["versions"]
    )
    seeds = "1 seed" if grid.seeds == 1 else f"{grid.seeds} seeds"
    return page(
        f"{len(grid.methods)} methods on {dataset}, {seeds}",
        [
            f'<p class="muted">{_TOLD[grid.counts]}</p>',
            *(_verdict(line) for line in summary["verdict"]),
            *sections,
            table(pairs) if len(pairs) > 1 else "",
            "<h2>Flags and versions</h2>",
            table([["flag", "value"], *asked]),
            f'<p class="muted">{escape(told)}</p>',
        ],
    )


_TOLD = {
    PARAMETERS: "A budget is a share of the parameters of the full table; what is compared are "
    "bytes of the bundle that each run ends in.",
    BYTES: "A budget is a share of the bytes of the full model's bundle, in float32 with all "
    "values, which each run's own keeps to; its AUC is that of what is stored.",
}


def _verdict(line: str) -> str:
    """A line of the verdict, marked where OptEmbed is below a rival."""
    is_below = line.startswith("OptEmbed is below")
    marked = ' class="warning"' if is_below else ""
    return f"<p{marked}><strong>{escape(line)}</strong></p>"


def _refused(summary: Mapping[str, Any]) -> str:
    """Why methods have no figures under some budgets."""
    refused = [one for one in summary["methods"] if "refused" in one]
    if not refused:
        return ""
    lines = "".join(
        f"<li>{escape(one['method'])} at {100 * one['share']:g} %: {escape(one['refused'])}</li>"
        for one in refused
    )
    return f"<h2>Budgets that were refused</h2>\n<ul>{lines}</ul>"
