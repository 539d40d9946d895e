"""What a comparison of methods came to: a verdict, tables, a picture."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import numpy as np

from experiments.run.comparison_grid import FULL, is_optembed
from experiments.run.records import Record
from experiments.run.report import aligned
from optembed_jax.rivals.registry import OPTEMBED
from optembed_jax.search.paired_difference import paired_difference


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Means over the seeds of each method and budget, and paired differences; JSON-able.

    A difference is OptEmbed's figure minus the rival's, over the seeds that both have finished. Of
    several words of OptEmbed the first is it, and the others are as rivals.
    """
    places = dict.fromkeys((r["method"], r["share"]) for r in records)
    ours = next((method for method, _ in places if is_optembed(method)), OPTEMBED)
    methods = [_mean_of(records, method, share) for method, share in places]
    differences = [
        _difference(records, ours, method, share)
        for method, share in places
        if method not in (ours, FULL) and _pairs(records, ours, method, share)
    ]
    versions = [r["versions"] for r in records if r.get("versions")]
    return {
        "verdict": _verdicts(differences, methods, ours),
        "methods": methods,
        "against": differences,
        "versions": [one for place, one in enumerate(versions) if one not in versions[:place]],
    }


def _mean_of(records: Sequence[Record], method: str, share: float) -> dict[str, Any]:
    own = [r for r in records if (r["method"], r["share"]) == (method, share)]
    done = [r for r in own if "refused" not in r]
    found: dict[str, Any] = {"method": method, "share": share, "seeds": len(done)}
    if not done:
        return {**found, "refused": own[0]["refused"]}
    for name in ("test_auc", "test_logloss"):
        values = np.array([r[name] for r in done])
        found[name] = float(values.mean())
        found[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
    for name in ("table_parameters", "bundle_bytes", "seconds"):
        found[name] = float(np.mean([r[name] for r in done]))
    return found


def _pairs(
    records: Sequence[Record], ours: str, method: str, share: float
) -> list[tuple[Record, Record]]:
    by_seed = {
        (r["method"], r["seed"]): r for r in records if r["share"] == share and "refused" not in r
    }
    seeds = sorted({r["seed"] for r in records})
    return [
        (by_seed[ours, seed], by_seed[method, seed])
        for seed in seeds
        if (ours, seed) in by_seed and (method, seed) in by_seed
    ]


def _difference(records: Sequence[Record], ours: str, method: str, share: float) -> dict[str, Any]:
    pairs = _pairs(records, ours, method, share)
    found: dict[str, Any] = {"method": method, "share": share, "seeds": len(pairs)}
    for name in ("test_auc", "test_logloss"):
        difference = paired_difference([a[name] for a, _ in pairs], [b[name] for _, b in pairs])
        found[name] = {"mean": difference.mean, "half_width": difference.half_width}
        if name == "test_auc":
            found["verdict"] = difference.verdict
    return found


def _verdicts(differences: Sequence[Any], methods: Sequence[Any], ours: str) -> list[str]:
    """A line for each budget, the losses first: OptEmbed against the rival that does best beside
    it, and whoever else is surely above it; and where it kept to no budget.
    """
    lost, others = list[str](), list[str]()
    for share in dict.fromkeys(one["share"] for one in methods if one["method"] != FULL):
        here = [one for one in methods if one["share"] == share and one["method"] != FULL]
        place = f"at {100 * share:g} %"
        if any(one["method"] == ours and "refused" in one for one in here):
            kept = [one["method"] for one in here if "refused" not in one]
            lost += [f"OptEmbed is below {', '.join(kept)} {place}: it is refused"] if kept else []
            continue
        rivals = [d for d in differences if d["share"] == share]
        if not rivals:
            continue
        # A rival with fewer seeds in common shows less, and is no stand-in for one with all.
        most = max(d["seeds"] for d in rivals)
        best = min((d for d in rivals if d["seeds"] == most), key=lambda d: d["test_auc"]["mean"])
        above = [
            d
            for d in rivals
            if d is not best and _is_sure(d["test_auc"]) and d["test_auc"]["mean"] < 0
        ]
        for one in (best, *above):
            said = _said(one, place)
            (lost if said.startswith("OptEmbed is below") else others).append(said)
    return [*lost, *others] or ["OptEmbed and a rival have no seed in common: nothing to compare"]


def _is_sure(difference: Mapping[str, Any]) -> bool:
    half_width = difference["half_width"]
    return half_width is not None and abs(difference["mean"]) > half_width


def _said(one: Mapping[str, Any], place: str) -> str:
    """Of a paired difference, over the seeds in common: a rival's own mean may hold others."""
    mean, half_width = one["test_auc"]["mean"], one["test_auc"]["half_width"]
    word = "above" if mean > 0 else "below"
    said = f"ties with (is {word} by less than the spread)"
    if _is_sure(one["test_auc"]):
        said = f"is {word}"
    if half_width is None:
        said = f"is {word}, by one seed, which shows no spread,"
    if mean == 0:
        said = "is equal to"
    spread = "" if half_width is None else f" +- {half_width:.4f}"
    return f"OptEmbed {said} {one['method']} {place}: test AUC {mean:+.4f}{spread}"


def tables(summary: Mapping[str, Any]) -> str:
    """The verdict first, then a line for each method and budget, then the paired differences."""
    lines = [*summary["verdict"], "", aligned(method_lines(summary))]
    lines += [
        f"{one['method']} at {100 * one['share']:g} % is refused: {one['refused']}"
        for one in summary["methods"]
        if "refused" in one
    ]
    lines += ["", "OptEmbed minus the rival, paired by seed, mean and 95 % interval:"]
    return "\n".join([*lines, aligned(difference_lines(summary))])


def method_lines(summary: Mapping[str, Any]) -> list[list[str]]:
    """A head, and a line for each method and budget, what was refused without figures."""
    head = ["method", "budget", "bundle bytes", "parameters", "test AUC", "test logloss"]
    lines = [[*head, "seeds", "seconds"]]
    for one in sorted(summary["methods"], key=lambda m: (m["share"], -m.get("test_auc", 0.0))):
        name, budget = one["method"], f"{100 * one['share']:g} %"
        if "refused" in one:
            lines.append([name, budget, "refused", "", "", "", "0", ""])
            continue
        sizes = [f"{one['bundle_bytes']:,.0f}", f"{one['table_parameters']:,.0f}"]
        figures = [_with_spread(one, key) for key in ("test_auc", "test_logloss")]
        lines.append([name, budget, *sizes, *figures, str(one["seeds"]), f"{one['seconds']:.0f}"])
    return lines


def difference_lines(summary: Mapping[str, Any]) -> list[list[str]]:
    """A head, and a line for each rival and budget."""
    return [
        ["rival", "budget", "AUC", "logloss", "seeds"],
        *(
            [
                one["method"],
                f"{100 * one['share']:g} %",
                *(_interval(one[name]) for name in ("test_auc", "test_logloss")),
                str(one["seeds"]),
            ]
            for one in summary["against"]
        ),
    ]


def picture(summary: dict[str, Any]) -> str:
    """Test AUC against bytes of the bundle, a line for each method; SVG."""
    figure = matplotlib.figure.Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="bundle, bytes (with vocabulary)", ylabel="test AUC", xscale="log"
    )
    done = [one for one in summary["methods"] if one["seeds"]]
    sizes = [one["bundle_bytes"] for one in done] or [1.0]
    axes.set_xlim(min(sizes) / 1.2, max(sizes) * 1.2)
    for method in dict.fromkeys(one["method"] for one in done):
        own = [one for one in done if one["method"] == method]
        own.sort(key=lambda one: one["bundle_bytes"])
        axes.errorbar(
            [one["bundle_bytes"] for one in own],
            [one["test_auc"] for one in own],
            [one["test_auc_sd"] or 0.0 for one in own],
            fmt="o-",
            capsize=2,
            label=method,
            color="black" if is_optembed(method) else None,
        )
    if done:
        axes.legend()
    axes.grid(alpha=0.3)
    file = io.BytesIO()
    # Names within the picture are drawn at random without it.
    with matplotlib.rc_context({"svg.hashsalt": "compare"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue().decode()


def _with_spread(one: dict[str, Any], name: str) -> str:
    spread = one[f"{name}_sd"]
    return f"{one[name]:.4f}" + ("" if spread is None else f" +- {spread:.4f}")


def _interval(difference: dict[str, Any]) -> str:
    half_width = difference["half_width"]
    return f"{difference['mean']:+.4f}" + ("" if half_width is None else f" +- {half_width:.4f}")
