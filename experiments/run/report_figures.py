"""The figures of a run's page, of what the run recorded; each None where it recorded nothing of it.

``summary`` is what ``summary.json`` has, ``metrics`` the lines of each phase's ``metrics.jsonl``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, PercentFormatter

from experiments.run.figure_svg import INK, LINE, MUTED, SERIES, SURFACE
from optembed_jax.search.budget import BYTES_PER_PARAMETER

Summary = Mapping[str, Any]
Metrics = Mapping[str, Sequence[Mapping[str, Any]]]

TRAINED = ("baseline", "supernet", "retrain")
_COLOUR = dict(zip((*TRAINED, "search"), SERIES, strict=True))


def _figure(height: float, columns: int = 1, width: float = 9.0) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _short(name: str) -> str:
    """A field's name in at most 40 characters; the tables have it whole."""
    return name if len(name) <= 40 else f"{name[:28]}…{name[-11:]}"


def learning_curves(metrics: Metrics) -> Figure | None:
    """Validation AUC and logloss of each epoch; the one that was taken is marked."""
    phases = [phase for phase in TRAINED if metrics.get(phase)]
    if not phases:
        return None
    figure, axes = _figure(3.4, 2)
    for own, key, name in zip(axes, ("val_auc", "val_logloss"), ("AUC", "logloss"), strict=True):
        for phase in phases:
            epochs = metrics[phase]
            best = [epoch for epoch in epochs if epoch.get("best")][-1:]
            own.plot(
                [epoch["number"] for epoch in epochs],
                [epoch[key] for epoch in epochs],
                "-" if len(epochs) > 1 else "o",
                color=_COLOUR[phase],
                label=phase,
            )
            own.plot(
                [epoch["number"] for epoch in best],
                [epoch[key] for epoch in best],
                "o",
                color=_COLOUR[phase],
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
    figure, (axes,) = _figure(3.0)
    numbers = [generation["generation"] for generation in history]
    for key, name, style in (("best", "best", "-"), ("mean_parent", "mean of those kept", "--")):
        values = [generation[f"{key}_{measure}"] for generation in history]
        colour = _COLOUR["search"] if key == "best" else MUTED
        axes.plot(numbers, values, style, color=colour, label=name)
    title = "AUC" if measure == "auc" else measure
    axes.set(title=f"validation {title} by the supernet", xlabel="generation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")
    return figure


def auc_against_bytes(summary: Summary, scored: np.ndarray | None) -> Figure | None:
    """What was trained, by its size; and the candidates that the supernet scored, with their front.

    Args:
      summary: of the run.
      scored: float64 ``[n, 2]``, bytes and fitness of each candidate; None without a search.
    """
    trained = _trained_points(summary)
    if not trained:
        return None
    has_cloud = scored is not None and len(scored) > 0
    figure, axes = _figure(3.8, 2 if has_cloud else 1)
    for _, size, auc, colour in trained:
        axes[0].plot(size, auc, "o", color=colour, markersize=8, markeredgecolor=SURFACE)
    _spread_labels(axes[0], trained)
    axes[0].set(title="validation AUC of what was trained")
    if scored is not None and has_cloud:
        front = front_of(scored)
        axes[1].plot(*scored.T, ".", color=MUTED, markersize=6, alpha=0.6, label="candidates")
        axes[1].step(
            *front.T, "o-", where="post", color=_COLOUR["search"], markersize=4, label="front"
        )
        search = summary["search"]
        is_loss = search.get("fitness") == "logloss" and "front" not in search
        axes[1].set(title="candidates, as the supernet scores them")
        axes[1].set(ylabel="minus logloss" if is_loss else "AUC")
        axes[1].legend(loc="lower right")
    for own in axes:
        own.set(xlabel="table, bytes (float32)")
        own.margins(x=0.1, y=0.12)
        sizes_along(own)
    axes[0].margins(x=0.3)
    return figure


def sizes_along(axes: Any) -> None:
    """Bytes on the horizontal axis, logarithmic, with numbers also within a power of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.xaxis.set_major_formatter(EngFormatter("B"))
    axes.xaxis.set_minor_formatter("")


def front_of(scored: np.ndarray) -> np.ndarray:
    """Of points float64 ``[n, 2]`` of size and fitness those that no smaller one equals."""
    order = np.lexsort((-scored[:, 1], scored[:, 0]))
    points = scored[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(points[:-1, 1])])
    return np.asarray(points[points[:, 1] > before])


def _trained_points(summary: Summary) -> list[tuple[str, float, float, str]]:
    """Name, bytes, validation AUC and colour of each model that was trained."""
    found = []
    kept = summary.get("retrain", {}).get("kept")
    for phase in TRAINED:
        result = summary.get(phase)
        if result is not None and "val_auc" in result:
            size = BYTES_PER_PARAMETER * result["table_parameters"]
            found.append((phase, float(size), result["val_auc"], _COLOUR[phase]))
    for finalist in summary.get("retrain", {}).get("finalists", []):
        if finalist["name"] != kept:
            size = BYTES_PER_PARAMETER * finalist["table_parameters"]
            found.append((finalist["name"], float(size), finalist["val_auc"], MUTED))
    return found


def _spread_labels(axes: Any, points: Sequence[tuple[str, float, float, str]]) -> None:
    """Names beside points, those of neighbours one below the other."""
    low = min(auc for _, _, auc, _ in points)
    least = 0.06 * max(max(auc for _, _, auc, _ in points) - low, 1e-4)
    at = np.inf
    for name, size, auc, _ in sorted(points, key=lambda point: -point[2]):
        at = min(auc, at - least)
        axes.annotate(
            name, (size, auc), xytext=(size * 1.15, at), color=INK, fontsize=9, va="center"
        )


def fields(summary: Summary) -> Figure | None:
    """Dimension and kept rows of each field, the one with most rows first."""
    found = sorted(summary.get("fields", []), key=lambda field: field["rows"])
    if not found:
        return None
    figure, axes = _figure(1.2 + 0.28 * len(found), 2)
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
    axes[0].legend(loc="lower right")
    return figure


def rows_by_frequency(bands: Sequence[Mapping[str, Any]]) -> Figure | None:
    """The share kept of the rows seen so often in training."""
    if not bands:
        return None
    figure, (axes,) = _figure(3.0)
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
    figure, (axes,) = _figure(4.2, width=6.0)
    for phase in phases:
        bins = summary[phase]["test_reliability"]
        predicted, clicked = ([b[key] for b in bins] for key in ("predicted", "clicked"))
        axes.plot(predicted, clicked, "o-", color=_COLOUR[phase], label=phase, markersize=4)
    most = axes.axis()[1]
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
    figure, axes = _figure(1.2 + 0.28 * len(found), 2)
    places = np.arange(len(found))
    axes[0].barh(places, [f["val_logloss_gained"] for f in found], color=SERIES[2])
    axes[0].set(title="logloss gained without its values")
    axes[1].barh(places, [f["bytes"] for f in found], color=SERIES[0])
    axes[1].set(title="bytes of its kept rows")
    if any(f["bytes"] for f in found):
        axes[1].set(xscale="log")
    axes[1].xaxis.set_major_formatter(EngFormatter("B"))
    axes[1].xaxis.set_minor_formatter("")
    for own in axes:
        own.set_yticks(places, [_short(field["name"]) for field in found])
        own.grid(axis="y", visible=False)
        own.set_ylim(-0.6, len(found) - 0.4)
    axes[1].tick_params(axis="y", labelleft=False)
    return figure
