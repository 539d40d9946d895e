"""The figures of a run's page, of what the run recorded; each None where it recorded nothing of it.

``summary`` is what ``summary.json`` has, ``metrics`` the lines of each phase's ``metrics.jsonl``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from experiments.run.figure_svg import LINE, MUTED, SERIES, SURFACE, figure_of
from experiments.run.size_figure import COLOUR, TRAINED, Summary, sizes_along

Metrics = Mapping[str, Sequence[Mapping[str, Any]]]


def _short(name: str) -> str:
    """A field's name in at most 40 characters; the tables have it whole."""
    return name if len(name) <= 40 else f"{name[:28]}…{name[-11:]}"


def learning_curves(metrics: Metrics) -> Figure | None:
    """Validation AUC and logloss of each epoch; the one that was taken is marked."""
    phases = [phase for phase in TRAINED if metrics.get(phase)]
    if not phases:
        return None
    figure, axes = figure_of(3.4, 2)
    for own, key, name in zip(axes, ("val_auc", "val_logloss"), ("AUC", "logloss"), strict=True):
        for phase in phases:
            epochs = metrics[phase]
            best = [epoch for epoch in epochs if epoch.get("best")][-1:]
            own.plot(
                [epoch["number"] for epoch in epochs],
                [epoch[key] for epoch in epochs],
                "-" if len(epochs) > 1 else "o",
                color=COLOUR[phase],
                label=phase,
            )
            own.plot(
                [epoch["number"] for epoch in best],
                [epoch[key] for epoch in best],
                "o",
                color=COLOUR[phase],
                markeredgecolor=SURFACE,
                markersize=8,
            )
        own.set(title=f"validation {name}", xlabel="epoch")
        own.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(loc="lower right")
    return figure


def search_progress(summary: Summary) -> Figure | None:
    """The best of each generation, and the mean of those that lived."""
    history = summary.get("search", {}).get("history", [])
    if not history:
        return None
    measure = "auc" if "best_auc" in history[0] else "logloss"
    figure, (axes,) = figure_of(3.0)
    numbers = [generation["generation"] for generation in history]
    for key, name, style in (("best", "best", "-"), ("mean_parent", "mean of those kept", "--")):
        values = [generation[f"{key}_{measure}"] for generation in history]
        colour = COLOUR["search"] if key == "best" else MUTED
        axes.plot(numbers, values, style, color=colour, label=name)
    title = "AUC" if measure == "auc" else measure
    axes.set(title=f"validation {title} by the supernet", xlabel="generation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")
    return figure


def fields(summary: Summary) -> Figure | None:
    """Dimension and kept rows of each field, the one with most rows first."""
    found = sorted(summary.get("fields", []), key=lambda field: field["rows"])
    if not found:
        return None
    figure, axes = figure_of(1.2 + 0.28 * len(found), 2)
    names, places = [_short(field["name"]) for field in found], np.arange(len(found))
    rows = [field["rows"] for field in found]
    axes[0].barh(places, rows, color=LINE, label="all")
    axes[0].barh(places, [f["rows_kept"] for f in found], color=SERIES[0], label="kept")
    axes[0].set(title="rows", xscale="log", xlim=(0.7, 10 * max(rows)))
    axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].xaxis.set_minor_formatter("")
    for place, field in enumerate(found):
        text = f"{field['rows_kept']:,} of {field['rows']:,}"
        axes[0].annotate(text, (field["rows"], place), (4, 0), textcoords="offset points",
                         va="center", fontsize=8, color=MUTED)  # fmt: skip
    axes[1].barh(places, [f["dim"] for f in found], color=SERIES[1])
    axes[1].set(title="dimension", xlim=(0, summary["flags"]["latent_dim"] * 1.02))
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    for own in axes:
        own.set_yticks(places, names)
        own.grid(axis="y", visible=False)
        own.set_ylim(-0.6, len(found) - 0.4)
    axes[1].tick_params(axis="y", labelleft=False)
    # Beside the title: names may leave little room, and numbers are right of the bars.
    axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2)
    return figure


def rows_by_frequency(bands: Sequence[Mapping[str, Any]]) -> Figure | None:
    """The share kept of the rows seen so often in training."""
    if not bands:
        return None
    figure, (axes,) = figure_of(3.0)
    shares = [band["rows_kept"] / band["rows"] if band["rows"] else 0.0 for band in bands]
    axes.bar([band["seen"] for band in bands], shares, color=SERIES[0], width=0.6)
    for place, (band, share) in enumerate(zip(bands, shares, strict=True)):
        text = f"{band['rows_kept']:,} of {band['rows']:,}"
        axes.annotate(text, (place, share), (0, 4), textcoords="offset points", ha="center",
                      fontsize=9, color=MUTED)  # fmt: skip
    axes.set(title="rows kept", xlabel="times seen in training", ylim=(0, 1.12))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="x", visible=False)
    return figure


def calibration(summary: Summary) -> Figure | None:
    """Share clicked against mean prediction, of a tenth of the test rows each."""
    phases = [phase for phase in TRAINED if summary.get(phase, {}).get("test_reliability")]
    if not phases:
        return None
    figure, (axes,) = figure_of(4.2, width=6.0)
    for phase in phases:
        bins = summary[phase]["test_reliability"]
        predicted, clicked = ([b[key] for b in bins] for key in ("predicted", "clicked"))
        axes.plot(predicted, clicked, "o-", color=COLOUR[phase], label=phase, markersize=4)
    most = 1.05 * max(
        b["predicted"] for phase in phases for b in summary[phase]["test_reliability"]
    )
    axes.plot([0, most], [0, most], "--", color=MUTED, linewidth=1, label="calibrated")
    axes.set(title="test rows, ten bins of equal size", xlabel="mean prediction")
    axes.set(ylabel="share clicked", xlim=(0, most), ylim=(0, None))
    axes.legend(loc="upper left")
    return figure


def feature_worth(summary: Summary) -> Figure | None:
    """What each field is worth, beside what it costs, the one that is worth most first."""
    found = [field for field in summary.get("fields", []) if "val_logloss_gained" in field]
    if not found:
        return None
    found = sorted(found, key=lambda field: field["val_logloss_gained"])
    figure, axes = figure_of(1.2 + 0.28 * len(found), 2)
    places = np.arange(len(found))
    axes[0].barh(places, [f["val_logloss_gained"] for f in found], color=SERIES[2])
    axes[0].set(title="logloss gained without its values")
    axes[0].xaxis.set_major_locator(MaxNLocator(4))
    axes[1].barh(places, [f["bytes"] for f in found], color=SERIES[0])
    axes[1].set(title="bytes of its kept rows")
    if any(f["bytes"] for f in found):
        sizes_along(axes[1])
    for own in axes:
        own.set_yticks(places, [_short(field["name"]) for field in found])
        own.grid(axis="y", visible=False)
        own.set_ylim(-0.6, len(found) - 0.4)
    axes[1].tick_params(axis="y", labelleft=False)
    return figure
