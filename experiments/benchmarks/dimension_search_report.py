"""Tables of ``dimension_search``: means and spreads, and the difference to the best rule."""

from typing import Any

import numpy as np

from experiments.benchmarks.runs_file import Record
from optembed_jax.dimension_rules import DIMENSION_RULES
from optembed_jax.paired_difference import paired_difference

_METHODS = ("search, budget", "search, pareto", "random search", *DIMENSION_RULES)


def summarise(records: list[Record]) -> dict[str, Any]:
    """Means, standard deviations and paired differences of every data set and backbone."""
    places = list(dict.fromkeys((record["dataset"], record["model"]) for record in records))
    return {
        f"{dataset} {model}": _place(
            [r for r in records if (r["dataset"], r["model"]) == (dataset, model)]
        )
        for dataset, model in places
    }


def _place(records: list[Record]) -> dict[str, Any]:
    auc: dict[tuple[str, float], dict[int, float]] = {}
    for record in records:
        by_seed = auc.setdefault((record["method"], record["share"]), {})
        by_seed[record["seed"]] = record["test_auc"]
    found: dict[str, Any] = {"full table": _spread(auc.get(("full table", 1.0), {}))}
    for share in sorted({share for _, share in auc if share < 1}):
        methods = {m: auc[m, share] for m in _METHODS if (m, share) in auc}
        rules = [m for m in methods if m in DIMENSION_RULES]
        best = max(rules, key=lambda rule: np.mean(list(methods[rule].values())))
        found[f"{share:.1%}"] = {
            "best_rule": best,
            "methods": {
                method: {**_spread(values), **_against(values, methods[best])}
                for method, values in methods.items()
            },
        }
    return found


def _spread(by_seed: dict[int, float]) -> dict[str, Any]:
    values = list(by_seed.values())
    if not values:
        return {"seeds": 0}
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"seeds": len(values), "test_auc": float(np.mean(values)), "deviation": deviation}


def _against(by_seed: dict[int, float], best: dict[int, float]) -> dict[str, Any]:
    seeds = sorted(by_seed.keys() & best.keys())
    if not seeds:
        return {}
    difference = paired_difference([by_seed[s] for s in seeds], [best[s] for s in seeds])
    return {
        "minus_best_rule": difference.mean,
        "half_width": difference.half_width,
        "verdict": difference.verdict,
    }


def tables(summary: dict[str, Any]) -> str:
    """A Markdown table for each data set and backbone."""
    return "\n\n".join(_table(place, found) for place, found in summary.items())


def _table(place: str, found: dict[str, Any]) -> str:
    shares = [name for name in found if name != "full table"]
    lines = [
        f"{place}: full table {_cell(found['full table'])}, {found['full table']['seeds']} seeds",
        "",
        f"| test AUC | {' | '.join(shares)} |",
        "|---" * (1 + len(shares)) + "|",
    ]
    for method in _METHODS:
        cells = [
            _cell(found[share]["methods"].get(method, {"seeds": 0}))
            + (" (best rule)" if found[share]["best_rule"] == method else "")
            for share in shares
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    for method in ("search, budget", "search, pareto"):
        verdicts = [found[s]["methods"].get(method, {}).get("verdict", "-") for s in shares]
        lines.append(f"| {method}, against the best rule | {' | '.join(verdicts)} |")
    return "\n".join(lines)


def _cell(spread: dict[str, Any]) -> str:
    if not spread["seeds"]:
        return "-"
    deviation = "" if spread["deviation"] is None else f" ± {spread['deviation']:.4f}"
    return f"{spread['test_auc']:.4f}{deviation}"
