"""What a candidate costs, what a whole search costs, and what the savings lose.

    python -m experiments.benchmarks.search --json=FILE [--stages=candidate,search]

Ours is what the search phase does: ``make_fitness``, a surrogate-assisted evolution, early stop. On
the other side stands one jitted forward pass per candidate and batch, with the same AUC on the
device; its search is the plain evolution over all its generations. Three stages:

- ``candidate``: 39 fields, D = 64, MLP [1024, 512, 256], every backbone. The candidates are the
  proposals of one generation, the middle one of an evolution and the random first one. The two
  sides take turns; figures are medians. Weights are random: they do not change what anything costs.
- ``search``: a budget search of 30 generations by a trained supernet (DeepFM, D = 16, MLP
  [128, 64]) on 81,920 validation rows of clicks with planted effects. Each side begins with nothing
  compiled and from the same first generation; both are timed from ``make_fitness`` to the winner.
- ``loss``: five such pairs with seeds of their own, the winners compared by their fitness on all
  rows. It is no timing, so both sides score by the fast forms, which are exact.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import json_file
from experiments.benchmarks.backbones import backbones
from experiments.benchmarks.search_supernets import (
    BATCH,
    Size,
    Supernet,
    drawn_supernet,
    trained_supernet,
)
from experiments.run import cli
from experiments.run.alternating import alternate
from optembed_jax.errors import InputError
from optembed_jax.fitness.validation_fitness import make_fitness
from optembed_jax.metrics import auc_on_device
from optembed_jax.models.forward import forward
from optembed_jax.models.selection import Selection
from optembed_jax.search.loop import SearchConfig, SearchState, evolve
from optembed_jax.search.population import Population
from optembed_jax.search.searchers import Evolution
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.successive_halving import Fitness
from optembed_jax.search.surrogate_assisted import SurrogateAssistedEvolution

STAGES = ("candidate", "search", "loss")
_STAGES = flags.DEFINE_list("stages", list(STAGES), f"Of {', '.join(STAGES)}.")
_MODELS = flags.DEFINE_list("models", ["all"], "Backbones of stage candidate, or all.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed turns of each side.", lower_bound=1)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Pairs of searches in stage loss.", lower_bound=1)

OF_CANDIDATE = Size(100_000, 8192, 64, (1024, 512, 256))
FEWER_ROWS = {"ipnn": 4096, "dlrm": 4096, "dcnv2": 1024, "autoint": 1024}
"""Of the backbones that take several times as long as the others."""
OF_SEARCH = Size(100_000, 81_920, 16, (128, 64), training_steps=200)


def one_by_one(net: Supernet) -> Fitness:
    """A jitted forward pass for each candidate and batch, and the AUC on the device."""
    logits_of = jax.jit(
        lambda params, stats, ids, dims: forward(
            net.model, params, stats, ids, Selection(dims=dims)
        )[0]
    )
    measure = jax.jit(auc_on_device)
    positive = net.labels != 0
    batches = [
        jnp.asarray(net.ids[start : start + BATCH]) for start in range(0, len(net.ids), BATCH)
    ]

    def fitness(candidates: np.ndarray) -> np.ndarray:
        found = []
        for dims in candidates:
            own = [
                logits_of(net.params, net.batch_stats, ids, jnp.asarray(dims)) for ids in batches
            ]
            logits = np.concatenate([np.asarray(part) for part in own])
            found.append(float(measure(logits[positive], logits[~positive])))
        return np.array(found)

    return fitness


def ours(net: Supernet) -> Any:
    """The fitness of the search phase."""
    return make_fitness(net.model, net.params, net.batch_stats, None, net.ids, net.labels)


def generation(space: SearchSpace, number: int) -> np.ndarray:
    """What an evolution proposes in a generation, int32 ``[20, F]``; its fitness is a made-up one.

    Each field has a best dimension, so that parents become alike as they do in a real search.
    """
    best = np.random.default_rng(0).integers(1, space.max_dim, space.num_fields)
    proposed: list[np.ndarray] = []

    def distance(candidates: np.ndarray) -> np.ndarray:
        proposed.append(candidates)
        return -np.abs(candidates - best).mean(axis=1)

    config = SearchConfig(generations=number, search_patience=0)
    nobody = np.zeros((0, space.num_fields), np.int32)
    _search(0, Evolution(space, config, nobody, halving=False), distance, config)
    return proposed[-1]


def measure_candidate(size: Size, name: str, number: int, repeats: int) -> dict[str, Any]:
    """Seconds per candidate per 100,000 rows of both sides, taking turns."""
    net = drawn_supernet(size, name)
    candidates = generation(size.space(None), number)
    sides: dict[str, tuple[Fitness, np.ndarray]] = {
        "jit": (one_by_one(net), candidates[::7]),
        "ours": (ours(net), candidates),
    }
    difference = np.abs(sides["ours"][0](candidates)[::7] - sides["jit"][0](candidates[::7])).max()
    turns = {side: functools.partial(fitness, asked) for side, (fitness, asked) in sides.items()}
    medians = {
        side: milliseconds / 1000 / len(sides[side][1]) / len(net.ids) * 100_000
        for side, milliseconds in alternate(turns, repeats, untimed=0).items()
    }
    return {
        "model": name,
        "generation": number,
        "jit_seconds": round(medians["jit"], 3),
        "our_seconds": round(medians["ours"], 3),
        "candidate_speedup": round(medians["jit"] / medians["ours"], 3),
        "largest_auc_difference": float(difference),
    }


def budget_search(net: Supernet, size: Size, fitness: Fitness, seed: int, *, saves: bool) -> Any:
    """A search under the budget; ``saves``: surrogate-assisted and with an early stop, as the main
    does it.
    """
    space = size.space()
    seeds = space.rule_candidates((space.limit,))
    if saves:
        config = SearchConfig()
        return _search(seed, SurrogateAssistedEvolution(space, config, seeds), fitness, config)
    config = SearchConfig(search_patience=0)
    return _search(seed, Evolution(space, config, seeds, halving=False), fitness, config)


def measure_search(size: Size, seed: int) -> dict[str, Any]:
    """Wall time of both searches, compilation included."""
    net = trained_supernet(size, seed)
    jax.clear_caches()
    our_seconds, winner = _timed(lambda: budget_search(net, size, ours(net), seed, saves=True))
    jax.clear_caches()
    full_seconds, full = _timed(
        lambda: budget_search(net, size, one_by_one(net), seed, saves=False)
    )
    return {
        "full_seconds": round(full_seconds, 1),
        "our_seconds": round(our_seconds, 1),
        "search_speedup": round(full_seconds / our_seconds, 3),
        **_compared(winner, full),
    }


def measure_loss(size: Size, seed: int) -> dict[str, Any]:
    """Both winners' fitness on all validation rows."""
    net = trained_supernet(size, seed)
    fitness = ours(net)
    return {"seed": seed} | _compared(
        budget_search(net, size, fitness, seed, saves=True),
        budget_search(net, size, fitness, seed, saves=False),
    )


def _compared(our: SearchState, full: SearchState) -> dict[str, Any]:
    return {
        "our_generations": len(our.history) - 1,
        "our_evaluations": our.history[-1].evaluations,
        "ours_on_all_rows": int(np.isfinite(our.cache.fitness).sum()),
        "full_evaluations": full.history[-1].evaluations,
        "our_auc": _best(our.population),
        "full_auc": _best(full.population),
        "loss": _best(full.population) - _best(our.population),
    }


def _best(population: Population) -> float:
    return float(population.fitness[0])


def _search(
    seed: int,
    searcher: Evolution | SurrogateAssistedEvolution,
    fitness: Fitness,
    config: SearchConfig,
) -> SearchState:
    state = SearchState.start(searcher.space.num_fields)
    for after in evolve(jax.random.key(seed), searcher, fitness, state, config):
        state = after
    return state


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def main() -> None:
    """Measure the stages, print a line for each figure, write the JSON."""
    models = backbones(_MODELS.value)
    if unknown := [name for name in _STAGES.value if name not in STAGES]:
        raise InputError(f"--stages={unknown[0]}: must be of {', '.join(STAGES)}")
    written: dict[str, Any] = json_file.machine()
    if "candidate" in _STAGES.value:
        headliner = "deepfm" if "deepfm" in models else models[0]
        others = [name for name in models if name != headliner]
        tables = []
        for name, number in [(headliner, 15), *((name, 15) for name in others), (headliner, 0)]:
            rows = FEWER_ROWS.get(name, OF_CANDIDATE.validation_rows)
            size = dataclasses.replace(OF_CANDIDATE, validation_rows=rows)
            tables.append(measure_candidate(size, name, number, _REPEATS.value))
            print(_candidate_line(tables[-1]), flush=True)
        headline = tables[0]
        written |= {"candidate_speedup": headline["candidate_speedup"], "candidates": tables}
    if "search" in _STAGES.value:
        search = measure_search(OF_SEARCH, seed=0)
        print(
            f"search   each proposal in full {search['full_seconds']:.1f} s, "
            f"ours {search['our_seconds']:.1f} s ({search['search_speedup']:.2f}x)  "
            f"{_outcome(search)}",
            flush=True,
        )
        written |= {"search_speedup": search["search_speedup"], "search": search}
    if "loss" in _STAGES.value:
        losses = []
        for seed in range(_SEEDS.value):
            losses.append(measure_loss(OF_SEARCH, seed))
            print(f"seed {seed}   {_outcome(losses[-1])}", flush=True)
        mean = float(np.mean([figures["loss"] for figures in losses]))
        print(f"fitness_loss {mean:+.2e}")
        written |= {"fitness_loss": mean, "losses": losses}
    json_file.write(written)


def _candidate_line(figures: dict[str, Any]) -> str:
    return (
        f"{figures['model']:<7}  generation {figures['generation']:>2}  "
        f"jit per candidate {figures['jit_seconds']:5.2f} s, ours {figures['our_seconds']:5.2f} s "
        f"per 100,000 rows ({figures['candidate_speedup']:.2f}x)  "
        f"AUC equal to {figures['largest_auc_difference']:.0e}"
    )


def _outcome(figures: dict[str, Any]) -> str:
    return (
        f"AUC {figures['full_auc']:.5f} and ours {figures['our_auc']:.5f} "
        f"(loss {figures['loss']:+.1e}) after {figures['full_evaluations']} and "
        f"{figures['our_evaluations']} candidates, {figures['ours_on_all_rows']} on all rows"
    )


if __name__ == "__main__":
    cli.run(main, goes_on=False)
