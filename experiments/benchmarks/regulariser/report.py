"""What the runs come to: means and spreads, the rungs chosen, and tables for the page."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.benchmarks.regulariser.plan import UNPRUNED, Finished, Grid
from experiments.benchmarks.regulariser.variants import FAMILIES, MAIN, Family
from experiments.benchmarks.runs_file import Record
from optembed_jax.search.paired_difference import paired_difference

AGAINST = f"group_lasso+{MAIN}"
"""The family that the others are compared with, seed by seed."""

LASSO_OR_BOTH = (f"group_lasso+{MAIN}", f"elastic_net+{MAIN}")
"""What ``--tune=rows`` chooses between: the group lasso, alone or with table L2 beside it."""

BESIDE = f"l2_coupled+{MAIN}"
"""What that choice stands beside."""

FIGURES = (
    "val_auc",
    "val_logloss",
    "test_auc",
    "test_logloss",
    "test_calibration",
    "best_epoch",
    "epochs",
    "seconds",
)

Cell = dict[str, Any]


def summarise(grid: Grid, records: Iterable[Record]) -> dict[str, Any]:
    """Figures of every strength, and of those that validation chose.

    Args:
      grid: what there is to run.
      records: what has been run.

    Returns:
      ``ladders``: a cell for each data set, family, share kept and rung, over its seeds: ``seeds``,
      how many, ``diverged``, and of each of ``FIGURES`` the ``mean`` and the standard deviation,
      ``spread`` (None of a single seed). ``best``: those of the rungs chosen, over the grid's
      seeds, with ``at_end``, whether the rung is the ladder's first or last, and ``less``, the
      difference in test AUC from ``AGAINST`` over the seeds that both have, and in logloss.
      ``either``: of ``LASSO_OR_BOTH`` the one whose rung validated better in the tuning seeds, its
      ``less`` being the difference from ``BESIDE``.
    """
    finished = Finished(records)
    groups: dict[tuple[Any, ...], dict[int, Record]] = {}
    for (*place, seed), record in finished.by_key.items():
        groups.setdefault(tuple(place), {})[seed] = record
    ladders = [_cell(place, group) for place, group in groups.items()]
    best, either = [], []
    for keep in (UNPRUNED, *grid.keeps):
        for dataset in grid.datasets:
            chosen = {}
            for family in grid.families:
                if keep != UNPRUNED and not family.pruned:
                    continue
                rung = grid.chosen(finished, dataset, family, keep)
                group = groups.get((dataset, family.name, rung, keep), {})
                group = {seed: group[seed] for seed in range(grid.seeds) if seed in group}
                if any("val_auc" in record for record in group.values()):
                    chosen[family.name] = (family, rung, group)
            other = chosen.get(AGAINST)
            for name, (family, rung, group) in chosen.items():
                cell = _cell((dataset, name, rung, keep), group)
                ends = (family.rungs[0].name, family.rungs[-1].name)
                cell["at_end"] = len(family.rungs) > 1 and rung in ends
                cell["less"] = None
                if other is not None and name != AGAINST:
                    cell["less"] = _less(group, other[2])
                best.append(cell)
            if chosen.keys() >= {*LASSO_OR_BOTH, BESIDE}:
                family, rung, group = max(
                    (chosen[name] for name in LASSO_OR_BOTH),
                    key=lambda found: _validated(found[2], grid.tuning_seeds),
                )
                cell = _cell((dataset, family.name, rung, keep), group)
                either.append({**cell, "less": _less(group, chosen[BESIDE][2])})
    return {"ladders": ladders, "best": best, "either": either}


def _validated(group: dict[int, Record], seeds: int) -> float:
    """Mean validation AUC of the first seeds."""
    return statistics.mean(
        group[seed].get("val_auc", 0.0) for seed in range(seeds) if seed in group
    )


def _cell(place: tuple[Any, ...], group: dict[int, Record]) -> Cell:
    ended = [record for record in group.values() if "val_auc" in record]
    return {
        **dict(zip(("dataset", "family", "rung", "keep"), place, strict=True)),
        "seeds": len(ended),
        "diverged": len(group) - len(ended),
        **({name: _spread([r[name] for r in ended]) for name in FIGURES} if ended else {}),
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "spread": spread}


def _less(group: dict[int, Record], other: dict[int, Record]) -> dict[str, Any] | None:
    """The paired difference in test AUC and in logloss, in the seeds that both have."""
    seeds = [
        seed
        for seed in sorted(group.keys() & other.keys())
        if "val_auc" in group[seed] and "val_auc" in other[seed]
    ]
    if not seeds:
        return None
    found: dict[str, Any] = {"seeds": len(seeds)}
    for name in ("test_auc", "test_logloss"):
        pair = paired_difference(
            [group[seed][name] for seed in seeds], [other[seed][name] for seed in seeds]
        )
        found[name] = {"mean": pair.mean, "half_width": pair.half_width}
    return found


def tables(grid: Grid, summary: dict[str, Any]) -> str:
    """Everything as Markdown, a heading for each data set."""
    parts = []
    for dataset in grid.datasets:
        best = [cell for cell in summary["best"] if cell["dataset"] == dataset]
        ladders = [cell for cell in summary["ladders"] if cell["dataset"] == dataset]
        unpruned = [cell for cell in best if cell["keep"] == UNPRUNED]
        if not ladders:
            continue
        parts.append(f"### {dataset}")
        if unpruned:
            parts.append(f"At the strength that validation chose, unpruned:\n\n{_best(unpruned)}")
        pruned = [cell for cell in best if cell["keep"] != UNPRUNED]
        if pruned:
            parts.append(f"Pruned, each at its own strength:\n\n{_pruned(pruned)}")
        either = [cell for cell in summary["either"] if cell["dataset"] == dataset]
        if either:
            parts.append(
                "The group lasso with or without table L2, as validation chooses, beside "
                f"{FAMILIES[BESIDE].title}:\n\n{_either(either)}"
            )
        parts.append(f"Every strength, unpruned:\n\n{_ladders(grid, ladders, UNPRUNED)}")
        for keep in grid.keeps:
            if any(cell["keep"] == keep for cell in ladders):
                parts.append(f"Every strength, {keep:.0%} kept:\n\n{_ladders(grid, ladders, keep)}")
    return "\n\n".join(parts)


def _best(cells: Sequence[Cell]) -> str:
    heading = [
        "regulariser",
        "strength",
        "test AUC",
        f"less {FAMILIES[AGAINST].title}",
        "logloss",
        "calibration",
        "best epoch of",
        "seconds",
        "seeds",
    ]
    lines = [
        [
            FAMILIES[cell["family"]].title,
            _rung(cell),
            _figure(cell["test_auc"]),
            _difference(cell, "test_auc"),
            _figure(cell["test_logloss"]),
            f"{cell['test_calibration']['mean']:.3f}",
            f"{cell['best_epoch']['mean']:.1f} of {cell['epochs']['mean']:.1f}",
            f"{cell['seconds']['mean']:.1f}",
            _seeds(cell),
        ]
        for cell in cells
    ]
    return _markdown(heading, lines)


def _pruned(cells: Sequence[Cell]) -> str:
    heading = [
        "kept",
        "regulariser",
        "strength",
        "test AUC",
        f"less {FAMILIES[AGAINST].title}",
        "logloss",
        "seeds",
    ]
    lines = [
        [
            f"{cell['keep']:.0%}",
            FAMILIES[cell["family"]].title,
            _rung(cell),
            _figure(cell["test_auc"]),
            _difference(cell, "test_auc"),
            _figure(cell["test_logloss"]),
            _seeds(cell),
        ]
        for cell in cells
    ]
    return _markdown(heading, lines)


def _either(cells: Sequence[Cell]) -> str:
    heading = ["kept", "chosen", "strength", "test AUC", "less L2", "logloss, less L2", "seeds"]
    lines = [
        [
            f"{cell['keep']:.0%}",
            FAMILIES[cell["family"]].title,
            str(cell["rung"]),
            _figure(cell["test_auc"]),
            _difference(cell, "test_auc"),
            _difference(cell, "test_logloss"),
            _seeds(cell),
        ]
        for cell in cells
    ]
    return _markdown(heading, lines)


def _ladders(grid: Grid, cells: Sequence[Cell], keep: float) -> str:
    heading = ["regulariser", "strength", "validation AUC", "test AUC", "logloss", "seeds"]
    by_place = {(c["family"], c["rung"]): c for c in cells if c["keep"] == keep}
    lines = []
    for family, rung in _rungs(grid.families):
        cell = by_place.get((family.name, rung))
        if cell is None:
            continue
        figures = [""] * 3
        if cell["seeds"]:
            figures = [_figure(cell[name]) for name in ("val_auc", "test_auc", "test_logloss")]
        lines.append([family.title, rung, *figures, _seeds(cell)])
    return _markdown(heading, lines)


def _rungs(families: Iterable[Family]) -> list[tuple[Family, str]]:
    return [(family, rung.name) for family in families for rung in family.rungs]


def _rung(cell: Cell) -> str:
    return f"{cell['rung']} (end of the ladder)" if cell["at_end"] else str(cell["rung"])


def _seeds(cell: Cell) -> str:
    diverged = f", {cell['diverged']} diverged" if cell["diverged"] else ""
    return f"{cell['seeds']}{diverged}"


def _figure(value: dict[str, float | None]) -> str:
    spread = "" if value["spread"] is None else f" ± {value['spread']:.4f}"
    return f"{value['mean']:.4f}{spread}"


def _difference(cell: Cell, name: str) -> str:
    if cell["less"] is None:
        return ""
    value = cell["less"][name]
    width = "" if value["half_width"] is None else f" ± {value['half_width']:.4f}"
    return f"{value['mean']:+.4f}{width}"


def _markdown(heading: list[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [heading, ["---"] * len(heading), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
