"""What the records say: means over seeds, gaps and their spread, the ratio of rates."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.benchmarks.peers.grid import SIDES, TREES, Grid, Place
from experiments.benchmarks.peers.timing import TIMED
from experiments.benchmarks.runs_file import Record

_FIGURES = ("val_auc", "test_auc", "test_logloss", "test_calibration")


def side_summary(grid: Grid, place: Place, records: Iterable[Record]) -> dict[str, Any] | None:
    """Mean and standard deviation over the seeds of the chosen rung; None before it is chosen."""
    own = [record for record in records if place.has(record) and record["rung"] != TIMED]
    rung = grid.chosen(place, own)
    if rung is None:
        return None
    seeds = [r for r in own if r["rung"] == rung.name and r["seed"] in grid.seeds]
    if not seeds:
        return None
    found: dict[str, Any] = {
        "dataset": place.dataset,
        "model": place.model,
        "side": place.side,
        "rung": rung.name,
        "at_the_end_of_the_ladder": rung in (grid.ladder(place)[0], grid.ladder(place)[-1]),
        "seeds": len(seeds),
        "seconds": statistics.mean(record["seconds"] for record in seeds),
        "epochs": statistics.mean(record["epochs"] for record in seeds),
    }
    for name in _FIGURES:
        values = [record[name] for record in seeds]
        found[name] = statistics.mean(values)
        found[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    return found


def gap(ours: dict[str, Any], peer: dict[str, Any], figure: str) -> dict[str, Any]:
    """By how much a peer is better, and how far apart one's own seeds lie.

    ``spread`` is the pooled standard deviation over seeds, ``sqrt((s_peer^2 + s_ours^2) / 2)``:
    what a single training of either side differs from its mean by. ``standard_error`` is that of
    the gap itself, ``sqrt(s_peer^2 / n_peer + s_ours^2 / n_ours)``. Both are None with one seed.
    """
    sign = 1 if figure == "test_auc" else -1
    deviations = [ours[f"{figure}_sd"], peer[f"{figure}_sd"]]
    spread = error = None
    if None not in deviations:
        spread = math.sqrt(statistics.mean(s * s for s in deviations))
        parts = zip(deviations, (ours["seeds"], peer["seeds"]), strict=True)
        error = math.sqrt(sum(s * s / n for s, n in parts))
    return {
        "dataset": ours["dataset"],
        "model": ours["model"],
        "peer": peer["side"],
        "gap": sign * (peer[figure] - ours[figure]),
        "spread": spread,
        "standard_error": error,
    }


def gaps(sides: Sequence[dict[str, Any]], figure: str) -> list[dict[str, Any]]:
    """At each data set and model, ours against the peer that does best on the test split.

    To choose the peer by its test figure favours the peer. LightGBM is no peer here.
    """
    found = []
    for ours in sides:
        at = [
            gap(ours, side, figure)
            for side in sides
            if (side["dataset"], side["model"]) == (ours["dataset"], ours["model"])
            and side["side"] not in ("ours", TREES)
        ]
        if ours["side"] == "ours" and at:
            found.append(max(at, key=lambda one: one["gap"]))
    return found


def ratios(records: Iterable[Record]) -> list[dict[str, Any]]:
    """At each data set and model, our rows per second over those of the fastest peer."""
    at: dict[tuple[str, str], dict[str, Record]] = {}
    for record in records:
        if record["rung"] == TIMED:
            at.setdefault((record["dataset"], record["model"]), {})[record["side"]] = record
    found = []
    for (dataset, model), sides in at.items():
        rates = {side: record["rows_per_second"] for side, record in sides.items()}
        peers = {side: rate for side, rate in rates.items() if side != "ours"}
        if "ours" not in rates or not peers:
            continue
        fastest = max(peers, key=lambda side: peers[side])
        found.append(
            {
                "dataset": dataset,
                "model": model,
                "cores": sides["ours"]["cores"],
                "rows_per_second": rates,
                "fastest_peer": fastest,
                "ratio": rates["ours"] / rates[fastest],
            }
        )
    return found


def summarise(grid: Grid, records: Sequence[Record]) -> dict[str, Any]:
    """Everything for the JSON; a key whose figures are not there yet is None."""
    summaries = [side_summary(grid, place, records) for place in grid.places]
    sides = [summary for summary in summaries if summary is not None]
    aucs, losses, rates = gaps(sides, "test_auc"), gaps(sides, "test_logloss"), ratios(records)
    worst_auc, worst_loss = (
        max(found, key=lambda one: one["gap"], default=None) for found in (aucs, losses)
    )
    worst_rate = min(rates, key=lambda one: one["ratio"], default=None)
    return {
        "worst_auc_gap": worst_auc and worst_auc["gap"],
        "worst_auc_gap_spread": worst_auc and worst_auc["spread"],
        "worst_logloss_gap": worst_loss and worst_loss["gap"],
        "worst_logloss_gap_spread": worst_loss and worst_loss["spread"],
        "rows_per_second_ratio": worst_rate and worst_rate["ratio"],
        "trainings_left": len(grid.wanted(records)),
        "sides": sides,
        "auc_gaps": aucs,
        "logloss_gaps": losses,
        "ratios": rates,
        "records": list(records),
    }


def tables(summary: dict[str, Any]) -> str:
    """What a person reads at the end."""
    lines = ["test figures, mean ± standard deviation over seeds of the rung that validation chose"]
    order = {side: number for number, side in enumerate(SIDES)}
    for one in sorted(summary["sides"], key=lambda s: (s["dataset"], s["model"], order[s["side"]])):
        end = "  (an end of the ladder)" if one["at_the_end_of_the_ladder"] else ""
        lines.append(
            f"{one['dataset']:<10} {one['model']:<9} {one['side']:<9} "
            f"AUC {one['test_auc']:.4f} ± {_number(one['test_auc_sd'])}  "
            f"logloss {one['test_logloss']:.4f} ± {_number(one['test_logloss_sd'])}  "
            f"calibration {one['test_calibration']:.3f}  {one['seeds']} seeds  "
            f"{one['epochs']:.0f} epochs  {one['rung']}{end}"
        )
    for title, key in (("AUC", "auc_gaps"), ("logloss", "logloss_gaps")):
        lines += ["", f"{title}: the best peer's mean is better than ours by (below 0: worse)"]
        lines += [
            f"{one['dataset']:<10} {one['model']:<9} {one['peer']:<9} {one['gap']:+.4f}  "
            f"spread {_number(one['spread'])}  standard error {_number(one['standard_error'])}"
            for one in summary[key]
        ]
    lines += ["", "training rows per second, medians of turns"]
    for one in summary["ratios"]:
        rates = "  ".join(f"{side} {rate:,.0f}" for side, rate in one["rows_per_second"].items())
        cores = f"{one['cores']} cores" if one["cores"] else "all cores"
        lines.append(
            f"{one['dataset']:<10} {one['model']:<9} {rates}  "
            f"ours / {one['fastest_peer']} {one['ratio']:.2f}  {cores}"
        )
    keys = ("worst_auc_gap", "worst_auc_gap_spread", "worst_logloss_gap", "rows_per_second_ratio")
    lines += ["", "  ".join(f"{key} {_number(summary[key])}" for key in keys)]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
