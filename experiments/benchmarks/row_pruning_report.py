"""What the trainings of the comparison come to: means and spreads, tables, a verdict and a plot."""

import collections
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.row_pruning_bench import KEEP_RATES

SHORT_LISTS = {
    "taylor, group lasso, short list": (
        "taylor, group lasso, oov",
        "taylor, group lasso, not retrained",
    ),
    "frequency, short list": ("frequency, oov", "frequency, not retrained"),
}
"""Of each seed, the one of two methods with the higher validation AUC."""

DEFAULT = "taylor, group lasso, short list"
RULES = ("frequency", "frequency_per_field", "frequency, oov", "frequency_per_field, oov")
"""What the default is measured against: the better of these on the same data."""
RULES_WITH_LIST = (*RULES, "frequency, short list")
"""The same, where frequency may keep what was not retrained, too."""

_DRAWN = {
    DEFAULT: ("default: Taylor under the group lasso, short list", "C3", "o"),
    "frequency": ("frequency", "C0", "s"),
    "frequency_per_field": ("frequency per field", "C9", "v"),
    "norm, none": ("norm, no decay", "C7", "x"),
    "hashing": ("quotient-remainder hashing", "C2", "^"),
    "smaller D": ("smaller D", "C1", "D"),
}

Cell = dict[str, Any]


def summarise(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every method, and the verdict on the default.

    Args:
      records: finished trainings, see ``row_pruning_methods``.

    Returns:
      ``cells``: one for each data set, model, method and keep rate; ``against_frequency``: one for
      each data set, model and keep rate that has all that is compared; and
      ``against_frequency_with_list``.
    """
    groups = collections.defaultdict(list)
    for record in with_short_lists(records):
        groups[record["dataset"], record["model"], record["method"], record["keep"]].append(record)
    cells = [
        {
            **dict(zip(("dataset", "model", "method", "keep"), key, strict=True)),
            "seeds": len(group),
            "share": statistics.mean(r["table_parameters"] / r["full_parameters"] for r in group),
            **{
                name: _mean_and_spread([record[name] for record in group])
                for name in ("test_auc", "test_logloss", "val_auc")
            },
            "kept_by_frequency": [
                statistics.mean(band)
                for band in zip(*(record["kept_by_frequency"] for record in group), strict=True)
            ],
        }
        for key, group in groups.items()
    ]
    return {
        "cells": cells,
        "against_frequency": against_frequency(cells, RULES),
        "against_frequency_with_list": against_frequency(cells, RULES_WITH_LIST),
    }


def with_short_lists(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records, and of each short list the record that it keeps, where both of its two are there."""
    found = list(records)
    where = ("dataset", "model", "seed", "keep")
    by_key = {(*(record[name] for name in where), record["method"]): record for record in found}
    for method, (retrained, as_it_was) in SHORT_LISTS.items():
        for record in [record for record in found if record["method"] == retrained]:
            other = by_key.get((*(record[name] for name in where), as_it_was))
            if other is not None:
                kept = max((record, other), key=lambda record: record["val_auc"])
                found.append({**kept, "method": method})
    return found


def against_frequency(cells: list[Cell], rules: Sequence[str]) -> list[dict[str, Any]]:
    """The default less the better of the rules, and whether the spread covers what it lacks.

    The spread is the larger standard deviation of the two.
    """
    by_key = {(c["dataset"], c["model"], c["method"], c["keep"]): c for c in cells}
    found = []
    for dataset, model in _pairs(cells):
        for keep in KEEP_RATES:
            default = by_key.get((dataset, model, DEFAULT, keep))
            cells_of = [by_key.get((dataset, model, rule, keep)) for rule in rules]
            present = [cell for cell in cells_of if cell is not None]
            if default is None or not present:
                continue
            best = max(present, key=lambda cell: cell["test_auc"]["mean"])
            difference = default["test_auc"]["mean"] - best["test_auc"]["mean"]
            spread = max(default["test_auc"]["spread"], best["test_auc"]["spread"])
            found.append(
                {
                    "dataset": dataset,
                    "model": model,
                    "keep": keep,
                    "rule": best["method"],
                    "difference": difference,
                    "spread": spread,
                    "holds": difference >= -spread,
                }
            )
    return found


def tables(summary: dict[str, Any]) -> str:
    """Everything as Markdown: AUC and logloss of each data set and model, then the verdict."""
    parts = []
    for dataset, model in _pairs(summary["cells"]):
        cells = [c for c in summary["cells"] if (c["dataset"], c["model"]) == (dataset, model)]
        for name, title in (("test_auc", "test AUC"), ("test_logloss", "test logloss")):
            parts.append(f"**{dataset}, {model}: {title}**\n\n{_table(cells, name)}")
    against = f"{DEFAULT}, against the better frequency rule"
    parts.append(_verdict(against, summary["against_frequency"]))
    listed = f"{against}, with a short list of its own"
    parts.append(_verdict(listed, summary["against_frequency_with_list"]))
    return "\n\n".join(parts)


def plot(summary: dict[str, Any], path: Path) -> None:
    """AUC against the share of table parameters kept, a panel for each data set and model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "optembed", "svg.fonttype": "none", "font.size": 8})
    pairs = _pairs(summary["cells"])
    datasets = list(dict.fromkeys(dataset for dataset, _ in pairs))
    models = list(dict.fromkeys(model for _, model in pairs))
    figure, axes = pyplot.subplots(
        len(models),
        len(datasets),
        figsize=(3.4 * len(datasets), 2.5 * len(models) + 0.8),
        squeeze=False,
        sharex=True,
        sharey="col",
    )
    for dataset, model in pairs:
        axis = axes[models.index(model)][datasets.index(dataset)]
        cells = [c for c in summary["cells"] if (c["dataset"], c["model"]) == (dataset, model)]
        _draw(axis, cells)
        axis.set_title(f"{dataset}, {model}")
    for axis in axes[-1]:
        axis.set_xlabel("table parameters kept, %")
    for row in axes:
        row[0].set_ylabel("test AUC")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    pyplot.close(figure)


def _draw(axis: Any, cells: list[Cell]) -> None:
    for method, (label, colour, marker) in _DRAWN.items():
        line = sorted((c for c in cells if c["method"] == method), key=lambda c: c["share"])
        axis.errorbar(
            [100 * c["share"] for c in line],
            [c["test_auc"]["mean"] for c in line],
            [c["test_auc"]["spread"] for c in line],
            label=label,
            color=colour,
            marker=marker,
            markersize=3.5,
            linewidth=1,
            capsize=2,
        )
    learned = [c for c in cells if c["method"].startswith("thresholds")]
    axis.plot(
        [100 * max(c["share"], 1e-3) for c in learned],
        [c["test_auc"]["mean"] for c in learned],
        "k*",
        markersize=5,
        label="learned thresholds, each decay and push",
    )
    best = tuned([c for c in cells if c["method"].startswith("unpruned, table l2")])
    if best is not None:
        axis.axhline(
            best["test_auc"]["mean"],
            color="k",
            linewidth=0.8,
            linestyle=":",
            label="unpruned, tuned table L2",
        )
    axis.set_xscale("log")
    axis.set_xlim(0.5, 130)
    axis.set_xticks([1, 5, 10, 20, 50, 100], ["1", "5", "10", "20", "50", "100"])
    axis.minorticks_off()
    axis.grid(alpha=0.3)


def tuned(cells: Sequence[Cell]) -> Cell | None:
    """The setting of the best mean validation AUC, None of none."""
    return max(cells, key=lambda cell: cell["val_auc"]["mean"], default=None)


def _pairs(cells: Iterable[Cell]) -> list[tuple[str, str]]:
    return sorted({(cell["dataset"], cell["model"]) for cell in cells})


def _mean_and_spread(values: Sequence[float]) -> dict[str, float]:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "spread": spread}


def _table(cells: list[Cell], name: str) -> str:
    """Methods that keep what they are told, then those that keep what they keep."""
    told: dict[str, dict[float, str]] = {}
    others = []
    best = tuned([cell for cell in cells if cell["method"].startswith("unpruned, table l2")])
    for cell in cells:
        found = f"{cell[name]['mean']:.4f} ± {cell[name]['spread']:.4f}"
        if cell["keep"] in KEEP_RATES:
            if round(cell["share"], 2) != cell["keep"]:
                found += f" at {cell['share']:.1%}"
            told.setdefault(cell["method"], {})[cell["keep"]] = found
        else:
            chosen = " (tuned)" if cell is best else ""
            others.append([f"{cell['method']}{chosen}", f"{cell['share']:.1%}", found])
    heading = ["kept", *(f"{keep:.0%}" for keep in KEEP_RATES)]
    lines = [
        [method, *(line.get(keep, "") for keep in KEEP_RATES)]
        for method, line in sorted(told.items())
    ]
    return f"{_markdown(heading, lines)}\n\n{_markdown(['method', 'kept', name], sorted(others))}"


def _verdict(title: str, against: list[dict[str, Any]]) -> str:
    heading = ["data, model", "kept", "better rule", "default - rule", "spread", "holds"]
    lines = [
        [
            f"{v['dataset']}, {v['model']}",
            f"{v['keep']:.0%}",
            v["rule"],
            f"{v['difference']:+.4f}",
            f"{v['spread']:.4f}",
            "yes" if v["holds"] else "NO",
        ]
        for v in against
    ]
    return f"**{title}**\n\n{_markdown(heading, lines)}"


def _markdown(heading: list[str], lines: list[list[str]]) -> str:
    rows = [heading, ["---"] * len(heading), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
