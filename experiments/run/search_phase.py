"""The search phase: dimensions of the fields, scored by the supernet."""

import dataclasses
import time
from typing import Any

import numpy as np
from etils.epath import Path

from experiments.run import front, pick, processes
from experiments.run.bundle_rows import is_bounded
from experiments.run.pick import Point
from experiments.run.progress import clock
from experiments.run.records import append_jsonl, run_again, write_jsonl
from experiments.run.search_setup import (
    MASKS,
    Masks,
    fitness_of,
    limit_of,
    masks_of,
    rule_names,
    searcher_of,
    space_of,
    supernet_of,
)
from experiments.run.trained import Run, Trained, counts, key_of
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.search import record as search_record
from optembed_jax.search.loop import Generation, SearchState, evolve
from optembed_jax.search.population import Population
from optembed_jax.search.searchers import front as front_of
from optembed_jax.search.space import SearchSpace
from optembed_jax.serving.kept_table import RowsAndDims
from optembed_jax.storage import array_file


def search(run: Run, folder: Path) -> dict[str, Any]:
    """Search, or go on with a search that was interrupted; the record of the phase."""
    settings, fields, options = run.settings, run.prepared.fields, run.settings.search_options
    supernet = supernet_of(run)
    masks = masks_of(run, supernet)
    if is_bounded(run) and processes.is_first():
        counts_of = [0 if mask is None else int(mask.sum()) for mask in masks.rows]
        array_file.save(folder / MASKS, {"rows": np.array(counts_of, np.int64)})
    space = space_of(run, masks, limit_of(run))
    fitness = fitness_of(run, supernet, masks, space, options.fitness)
    earlier = None if run.warm is None else run.warm.dims()
    searcher, config, merit = searcher_of(options, settings.search, space, earlier)
    state = _begin_or_resume(run, folder, space)
    key, started, before = key_of(run, "search"), time.monotonic(), len(state.history)
    for after in evolve(key, searcher, fitness, state, config, merit):
        state = after
        if processes.is_first():
            array_file.save(folder / "search.safetensors", search_record.to_arrays(state))
        last = _generation_record(state.history[-1], space, options.fitness)
        append_jsonl(folder / "metrics.jsonl", last)
        seconds = (time.monotonic() - started) / (len(state.history) - before)
        run.progress.say(_generation_line(last, options.fitness, config.generations, seconds))
        processes.stop_if_asked("the next generation")
    record: dict[str, Any] = {
        "strategy": options.strategy,
        "fitness": options.fitness,
        "evaluations": state.history[-1].evaluations,
        # What search.safetensors' candidates are counted by: rows of each mask in every field.
        "space": {"rows": space.rows.tolist(), "multiple": space.multiple},
        "history": [_generation_record(g, space, options.fitness) for g in state.history],
    }
    if earlier is not None and options.strategy in ("budget", "pareto"):
        record["warm_start"] = dict(zip(fields.names, earlier.tolist(), strict=True))

    by_logloss = options.fitness == "logloss"
    in_auc = fitness_of(run, supernet, masks, space, "auc") if by_logloss else fitness

    def as_points(found: Population) -> list[Point]:
        judged = {"val_auc": found.fitness}
        if by_logloss:
            judged = {"val_auc": in_auc(found.dims), "val_logloss": -found.fitness}
        return front.points(space, masks, fields, found, judged, run.bundle_cost)

    winner = Population(state.population.dims[:1], state.population.fitness[:1])
    if options.strategy == "pareto":
        winner = front_of(space, state.cache.dims, state.cache.fitness)
        rules = [
            {"rule": rule, **point}
            for rule, candidates in _rules(space)
            for point in as_points(Population(candidates, fitness(candidates)))
        ]
        found = as_points(winner)
        front.save(folder, found, rules)
        record["front"] = found
        # A place in the front and a knee they have not; what `mask` numbers `keep_rate` says.
        beside = ("index", "knee", "mask")
        record["rules"] = [{k: v for k, v in p.items() if k not in beside} for p in rules]
        run.progress.say(f"search  front of {len(found)} tables: {folder / 'front.svg'}")
    best = as_points(winner)[-1]
    trained = chosen(supernet, masks, best, fields)
    return {
        **{name: best[name] for name in ("val_auc", "val_logloss", "bundle_bytes") if name in best},
        **counts(run, settings.model, trained),
        **{name: best[name] for name in ("dims", "keep_rate", "mask")},
        **record,
    }


def chosen(supernet: Trained, masks: Masks, point: Point, fields: Fields) -> Trained:
    """The supernet with the rows and dimensions of a point."""
    mask = masks.rows[point["mask"]]
    kept = RowsAndDims(
        supernet.rows if mask is None else mask,
        np.array([point["dims"][name] for name in fields.names], np.int32),
    )
    return dataclasses.replace(supernet, kept=kept)


def picked(run: Run, wanted_by: str) -> Point:
    """The point that ``--pick`` chooses of what the search found.

    Raises:
      InputError: there is no finished search, or it found no front to choose from.
    """
    result = run.workdir.require("search", wanted_by)
    if "front" in result:
        return pick.pick(result["front"], run.settings.pick)
    if run.settings.pick != "best":
        raise InputError(
            f"--pick={run.settings.pick} chooses from a front; the search in {run.workdir.path} "
            f"was --search={result['strategy']}, which found one winner. Use --search=pareto"
        )
    return {name: result[name] for name in ("val_auc", "dims", "mask", "table_parameters")}


def _begin_or_resume(run: Run, folder: Path, space: SearchSpace) -> SearchState:
    """The state after the last generation that was saved, or before the first one."""
    path = folder / "search.safetensors"
    state = SearchState.start(len(space.limits))
    if path.exists():
        state = search_record.from_arrays(array_file.load(path, run_again(folder)))
        run.progress.say(f"search  goes on after generation {state.history[-1].number}")
    measure = run.settings.search_options.fitness
    records = [_generation_record(generation, space, measure) for generation in state.history]
    write_jsonl(folder / "metrics.jsonl", records)
    return state


def _rules(space: SearchSpace) -> list[tuple[str, np.ndarray]]:
    """The simple rules at some sizes, to show beside the front."""
    smallest, largest = space.size_range
    sizes = np.geomspace(smallest, largest, 6).round().astype(int).tolist()
    return [named for limit in sizes for named in rule_names(space, limit)]


def _generation_record(generation: Generation, space: SearchSpace, measure: str) -> dict[str, Any]:
    sign = 1 if measure == "auc" else -1
    return {
        "generation": generation.number,
        f"best_{measure}": sign * generation.best,
        f"mean_parent_{measure}": sign * generation.mean,
        "merit": generation.merit,
        "scored": generation.scored,
        "evaluations": generation.evaluations,
        "best_dims": space.dims(generation.winner).tolist(),
    }


def _generation_line(record: dict[str, Any], measure: str, generations: int, seconds: float) -> str:
    left = seconds * (generations - record["generation"])
    name = "AUC" if measure == "auc" else measure
    return (
        f"search  generation {record['generation']}/{generations}  "
        f"{record['scored'] / max(seconds, 1e-9):,.1f} candidates/s  "
        f"best {name} {record[f'best_{measure}']:.4f}  ETA {clock(left)} at most"
    )
