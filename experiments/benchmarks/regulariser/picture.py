"""The picture of the page: AUC and logloss against strength, and AUC against the share kept."""

from pathlib import Path
from typing import Any

from experiments.benchmarks.regulariser.plan import UNPRUNED, Grid
from experiments.benchmarks.regulariser.variants import FAMILIES, MAIN

_DRAWN = {
    f"group_lasso+{MAIN}": ("C3", "o"),
    f"l2_proximal+{MAIN}": ("C0", "s"),
    f"l2_coupled+{MAIN}": ("C1", "^"),
    f"l2_visited+{MAIN}": ("C2", "v"),
    f"elastic_net+{MAIN}": ("C4", "D"),
}
"""Families with a colour and a marker; the elastic net has no strength to draw it against."""


def draw(grid: Grid, summary: dict[str, Any], path: Path) -> None:
    """Write the picture, ``.svg`` or ``.png``: a column for each data set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "optembed", "svg.fonttype": "none", "font.size": 8})
    labels = ["test AUC", "logloss"]
    if any(cell["keep"] != UNPRUNED for cell in summary["best"]):
        labels.append("test AUC")  # Against the share kept, where something was pruned.
    height = 0.8 + 2.27 * len(labels)
    figure, axes = pyplot.subplots(
        len(labels),
        len(grid.datasets),
        figsize=(3.4 * len(grid.datasets), height),
        squeeze=False,
    )
    for column, dataset in enumerate(grid.datasets):
        ladders = [c for c in summary["ladders"] if c["dataset"] == dataset and c["seeds"]]
        best = [c for c in summary["best"] if c["dataset"] == dataset]
        for axis, name in zip(axes[:2, column], ("test_auc", "test_logloss"), strict=True):
            _against_strength(axis, ladders, name)
            axis.set_xlabel("strength")
        axes[0, column].set_title(dataset)
        for axis in axes[2:, column]:
            _against_share(axis, best)
            axis.set_xlabel("rows kept, %")
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label)
    named = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if named:
        figure.legend(named.values(), named.keys(), loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.53 / height, 1, 1))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    pyplot.close(figure)


def _against_strength(axis: Any, ladders: list[dict[str, Any]], name: str) -> None:
    for family, (colour, marker) in _DRAWN.items():
        order = {rung.name: number for number, rung in enumerate(FAMILIES[family].rungs)}
        line = sorted(
            (
                c
                for c in ladders
                if c["family"] == family and c["keep"] == UNPRUNED and "+" not in c["rung"]
            ),
            key=lambda cell: order[cell["rung"]],
        )
        if line:
            _line(axis, [float(c["rung"]) for c in line], line, name, family, colour, marker)
    for cell in ladders:
        if cell["family"] == f"none+{MAIN}" and cell["keep"] == UNPRUNED:
            label = FAMILIES[cell["family"]].title
            axis.axhline(cell[name]["mean"], color="k", linewidth=0.8, ls=":", label=label)
    axis.set_xscale("log")
    axis.grid(alpha=0.3)


def _against_share(axis: Any, best: list[dict[str, Any]]) -> None:
    for family, (colour, marker) in _DRAWN.items():
        line = sorted((c for c in best if c["family"] == family), key=lambda cell: cell["keep"])
        if len(line) > 1:
            shares = [100 * cell["keep"] for cell in line]
            _line(axis, shares, line, "test_auc", family, colour, marker)
    axis.set_xscale("log")
    axis.set_xticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
    axis.minorticks_off()
    axis.grid(alpha=0.3)


def _line(
    axis: Any,
    where: list[float],
    line: list[dict[str, Any]],
    name: str,
    family: str,
    colour: str,
    marker: str,
) -> None:
    axis.errorbar(
        where,
        [cell[name]["mean"] for cell in line],
        [cell[name]["spread"] or 0.0 for cell in line],
        label=FAMILIES[family].title,
        color=colour,
        marker=marker,
        markersize=3.5,
        linewidth=1,
        capsize=2,
    )
