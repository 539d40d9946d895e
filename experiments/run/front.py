"""The front of a search: tables of every size worth having, as a table and a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import numpy as np
from etils.epath import Path

from experiments.run.pick import Point, size_of
from experiments.run.records import write_json, write_text
from experiments.run.search_setup import Masks
from optembed_jax.fields import Fields
from optembed_jax.search.budget import BYTES_PER_PARAMETER
from optembed_jax.search.pareto import knee
from optembed_jax.search.population import Population
from optembed_jax.search.searchers import objectives
from optembed_jax.search.space import SearchSpace
from optembed_jax.serving.planned_bytes import STORAGE, BundleCost


def points(
    space: SearchSpace,
    masks: Masks,
    fields: Fields,
    found: Population,
    judged: Mapping[str, np.ndarray],
    cost: BundleCost | None = None,
) -> list[Point]:
    """Candidates as records, in their order; ``index`` is the place in it.

    Args:
      space: of the candidates.
      masks: that they choose from.
      fields: names of the dimensions.
      found: the candidates.
      judged: float ``[K]`` each: what the supernet says of them, ``val_auc`` and, where it was
        searched for, ``val_logloss``.
      cost: of a bundle, where those were searched for; adds ``bundle_bytes``.
    """
    sizes, numbers = space.parameters(found.dims), space.mask(found.dims)
    paid = space.cost(found.dims).tolist()
    knee_at = knee(objectives(space, found.dims, found.fitness))
    beside = space.rows[numbers].sum(axis=1)
    return [
        {
            "index": index,
            **{name: float(values[index]) for name, values in judged.items()},
            "table_parameters": int(sizes[index]),
            "table_bytes": BYTES_PER_PARAMETER * int(sizes[index]),
            **({} if cost is None else {"bundle_bytes": cost.told(paid[index])}),
            "rows": int(beside[index]),
            "mask": int(numbers[index]),
            "keep_rate": masks.keep_rates[numbers[index]],
            "knee": index == knee_at,
            "dims": dict(zip(fields.names, space.dims(found.dims[index]).tolist(), strict=True)),
        }
        for index in range(len(found))
    ]


def save(folder: Path, front: Sequence[Point], rules: Sequence[Point]) -> None:
    """``front.json``, ``front.csv`` and ``front.svg``, each written whole or not at all."""
    write_json(folder / "front.json", list(front))
    names = [name for name in front[0] if name != "dims"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *front[0]["dims"]])
    for point in front:
        writer.writerow([*(point[name] for name in names), *point["dims"].values()])
    write_text(folder / "front.csv", text.getvalue())
    write_text(folder / "front.svg", _picture(front, rules))


def _picture(front: Sequence[Point], rules: Sequence[Point]) -> str:
    """What was searched for, on the validation rows, against size."""
    judged, name = ("val_logloss", "logloss") if "val_logloss" in front[0] else ("val_auc", "AUC")
    figure = matplotlib.figure.Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel=f"bundle, bytes (rows {STORAGE}, estimated)"
        if size_of(front[0]) == "bundle_bytes"
        else "table, bytes (float32)",
        ylabel=f"validation {name} of the supernet",
        xscale="log",
    )
    for rule in dict.fromkeys(point["rule"] for point in rules):
        of_rule = [point for point in rules if point["rule"] == rule]
        _draw(axes, of_rule, judged, "x", label=rule)
    _draw(axes, front, judged, "o-", label="front", color="black", markersize=3)
    at = next(point for point in front if point["knee"])
    axes.annotate("knee", (at[size_of(at)], at[judged]), (8, -14), textcoords="offset points")
    axes.legend()
    axes.grid(alpha=0.3)
    file = io.BytesIO()
    # Names within the picture are drawn at random without it.
    with matplotlib.rc_context({"svg.hashsalt": "front"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue().decode()


def _draw(axes: Any, some: Sequence[Point], judged: str, style: str, **options: Any) -> None:
    sizes, values = [p[size_of(p)] for p in some], [p[judged] for p in some]
    axes.plot(sizes, values, style, **options)


def table(front: Sequence[Point], most: int = 12) -> str:
    """Some lines of the front, the smallest table first; the ends and the knee are among them."""
    shown = set(np.linspace(0, len(front) - 1, min(most, len(front))).round().astype(int).tolist())
    has_logloss = "val_logloss" in front[0]
    size = size_of(front[0])
    of = size.replace("_", " ")
    head = f"{'pick':>5} {of:>14} {'parameters':>12} {'rows':>10} {'val AUC':>9}"
    lines = [head + (f" {'logloss':>9}" if has_logloss else "")]
    for point in front:
        if point["index"] in shown or point["knee"]:
            logloss = f" {point['val_logloss']:>9.4f}" if has_logloss else ""
            lines.append(
                f"{point['index']:>5} {point[size]:>14,} {point['table_parameters']:>12,} "
                f"{point['rows']:>10,} {point['val_auc']:>9.4f}{logloss}"
                f"{'  knee' if point['knee'] else ''}"
            )
    return "\n".join(lines)
