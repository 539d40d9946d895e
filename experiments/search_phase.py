"""The search phase: dimensions of the fields, scored by the supernet."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from experiments.progress import clock
from experiments.trained import Run, counts, key_of, load_trained
from experiments.workdir import append_jsonl
from optembed_jax.fitness import make_fitness
from optembed_jax.search import Generation, evolve


def search(run: Run, folder: Path) -> dict[str, Any]:
    """Search; the record of the phase."""
    settings, fields = run.settings, run.prepared.fields
    supernet = load_trained(run, "supernet")
    ids, labels = run.prepared.arrays("validation")
    fitness = make_fitness(
        settings.model,
        supernet.params,
        supernet.batch_stats,
        supernet.rows if settings.model.prunes_rows else None,
        ids,
        labels,
        batch_size=settings.batch_size,
        candidates_per_pass=settings.candidates_per_pass,
    )
    started, history = time.monotonic(), []
    generations = evolve(
        key_of(run, "search"),
        fitness,
        fields.num_fields,
        settings.model.latent_dim,
        settings.search,
    )
    for generation in generations:
        record = _generation_record(generation)
        history.append(record)
        append_jsonl(folder / "metrics.jsonl", record)
        seconds = time.monotonic() - started
        run.progress.say(_generation_line(generation, settings.search.generations, seconds))
    winner = generation.parents
    trained = dataclasses.replace(supernet, dims=winner.winner)
    return {
        "val_auc": float(winner.fitness[0]),
        **counts(run, settings.model, trained),
        "dims": dict(zip(fields.names, winner.winner.tolist(), strict=True)),
        "evaluations": generation.evaluations,
        "history": history,
    }


def _generation_record(generation: Generation) -> dict[str, Any]:
    return {
        "generation": generation.number,
        "best_auc": float(generation.parents.fitness[0]),
        "mean_parent_auc": float(generation.parents.fitness.mean()),
        "scored": generation.scored,
        "evaluations": generation.evaluations,
        "best_dims": generation.parents.winner.tolist(),
    }


def _generation_line(generation: Generation, generations: int, seconds: float) -> str:
    left = seconds / (generation.number + 1) * (generations - generation.number)
    return (
        f"search  generation {generation.number}/{generations}  "
        f"{generation.evaluations / max(seconds, 1e-9):,.1f} candidates/s  "
        f"best AUC {generation.parents.fitness[0]:.4f}  ETA {clock(left)}"
    )
