"""Tables of ``dimension_search``: means and spreads, and the difference to the best rule."""

from typing import Any

import numpy as np

from experiments.benchmarks.dimension_choices import BUDGET, PARETO, RANDOM
from experiments.benchmarks.runs_file import Record
from optembed_jax.search.dimension_rules import DIMENSION_RULES
from optembed_jax.search.paired_difference import paired_difference

_SEARCHES = (BUDGET, PARETO, RANDOM)
_RULES_ALONE = "best rule by validation"
_WITH_RULES = {method: f"{method}, short list" for method in _SEARCHES}
_METHODS = (*_WITH_RULES.values(), _RULES_ALONE, *_SEARCHES, *DIMENSION_RULES)
_AGAINST_RULE = (*_WITH_RULES.values(), BUDGET, PARETO)


def with_short_lists(records: list[Record]) -> list[Record]:
    """The records, and those of what a short list keeps: of each search and all rules, or of the
    rules alone, the training with the best validation AUC at each share and seed.

    Nothing is trained for it. ``trainings`` is how many tables were.
    """
    by_place: dict[tuple[Any, ...], dict[str, Record]] = {}
    for record in records:
        place = tuple(record[name] for name in ("dataset", "model", "seed", "share"))
        by_place.setdefault(place, {})[record["method"]] = record
    found = list(records)
    for methods in by_place.values():
        rules = [methods[rule] for rule in DIMENSION_RULES if rule in methods]
        if len(rules) < len(DIMENSION_RULES):
            continue
        lists = {name: [methods[m], *rules] for m, name in _WITH_RULES.items() if m in methods}
        for name, tables in {**lists, _RULES_ALONE: rules}.items():
            kept = max(tables, key=lambda record: record["val_auc"])
            distinct = {tuple(record["dims"]) for record in tables}
            found.append({**kept, "method": name, "trainings": len(distinct)})
    return found


def summarise(records: list[Record]) -> dict[str, Any]:
    """Means, standard deviations and paired differences of every data set and backbone."""
    records = with_short_lists(records)
    places = list(dict.fromkeys((record["dataset"], record["model"]) for record in records))
    return {
        f"{dataset} {model}": _place(
            [r for r in records if (r["dataset"], r["model"]) == (dataset, model)]
        )
        for dataset, model in places
    }


def _place(records: list[Record]) -> dict[str, Any]:
    auc: dict[tuple[str, float], dict[int, float]] = {}
    trainings: dict[tuple[str, float], list[int]] = {}
    for record in records:
        at = record["method"], record["share"]
        auc.setdefault(at, {})[record["seed"]] = record["test_auc"]
        trainings.setdefault(at, []).append(record.get("trainings", 1))
    found: dict[str, Any] = {"full table": _spread(auc.get(("full table", 1.0), {}))}
    for share in sorted({share for _, share in auc if share < 1}):
        methods = {m: auc[m, share] for m in _METHODS if (m, share) in auc}
        rules = [m for m in methods if m in DIMENSION_RULES]
        best = max(rules, key=lambda rule: np.mean(list(methods[rule].values())))
        found[f"{share:.1%}"] = {
            "best_rule": best,
            "methods": {
                method: {
                    **_spread(values),
                    "trainings": float(np.mean(trainings[method, share])),
                    **_against(values, methods[best]),
                }
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
    for method in _AGAINST_RULE:
        verdicts = [found[s]["methods"].get(method, {}).get("verdict", "-") for s in shares]
        lines.append(f"| {method}, against the best rule | {' | '.join(verdicts)} |")
    default = _WITH_RULES[BUDGET]
    tables_each = [found[s]["methods"].get(default, {}).get("trainings", 0.0) for s in shares]
    lines.append(
        f"| tables in the list of the first | {' | '.join(f'{n:.1f}' for n in tables_each)} |"
    )
    return "\n".join(lines)


def _cell(spread: dict[str, Any]) -> str:
    if not spread["seeds"]:
        return "-"
    deviation = "" if spread["deviation"] is None else f" ± {spread['deviation']:.4f}"
    return f"{spread['test_auc']:.4f}{deviation}"
