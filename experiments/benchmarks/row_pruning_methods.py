"""The ways to make a table smaller that are compared, each from data to test scores.

Every method yields records, one per model trained for its sake; ``row_pruning`` keeps them.
"""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.arrays import Problem
from experiments.benchmarks.quotient_remainder import fit_hashed
from experiments.benchmarks.row_pruning_bench import (
    EPOCHS,
    KEEP_RATES,
    LATENT_DIM,
    PATIENCE_AT_ONE_RATE,
    Bench,
    as_trained,
    best_share,
    key_of,
    record_of,
    retrained,
    train_once,
    unpruned_run,
)
from experiments.benchmarks.runs_file import Finished, Record
from optembed_jax.method.threshold import table_row_mask
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_step import Phase
from optembed_jax.table.decay import ROW_DECAYS
from optembed_jax.table.score import init_scores, row_scores

UNDER_LASSO = TrainConfig(row_decay="group_lasso", group_lasso=1e-3)
PLAIN = TrainConfig(row_decay="none")
RETRAINING = UNDER_LASSO
"""Of everything that is pruned to a budget, so that only the choice of rows differs."""

PUBLISHED = TrainConfig(l2=1e-5, t_lr=1e-4, alpha=1e-5, table_update="dense")
"""The reference: coupled L2 in a dense Adam, thresholds at a published rate."""

PUSHES = (1e-2, 3e-2)
"""Weights of the thresholds' regulariser, with ``t_lr`` 0.1: the paper's move almost nothing."""

TABLE_L2_GRID = (3e-2, 1e-1, 3e-1)
"""Of rows alone, kernels have the default: as strong on rows, an L2 of both spoils the network."""

_FREQUENCY = ("frequency", "frequency_per_field")


Wanted = Callable[[str, float | None], bool]
"""Whether a method at a keep rate (None where nobody chooses it) has still to be run."""


def frequency_cuts(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """The most frequent rows: of the whole table, or the same share of each field."""
    for kind in _FREQUENCY:
        for oov in ("zero", "oov"):
            yield from _cuts(bench, wanted, kind, _frequency_scores(bench, kind), oov)


def cuts_under_group_lasso(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """By the norm of the last epoch's steps, and by the last norm, both under the group lasso."""
    kinds = (("mean_norm", "zero"), ("mean_norm", "oov"), ("norm", "zero"))
    yield from _scored_cuts(bench, wanted, UNDER_LASSO, "unpruned, group lasso", kinds, "mean_norm")


def taylor_under_group_lasso(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """By Taylor saliency under the group lasso, so that one decay serves both trainings: the
    default.

    And what that training itself is, not retrained, once it is cut by a score.
    """
    kinds = (("taylor", "zero"), ("taylor", "oov"))
    yield from _scored_cuts(
        bench,
        wanted,
        UNDER_LASSO,
        "unpruned, group lasso",
        kinds,
        "taylor",
        ("taylor", "frequency"),
    )


def cuts_of_plain_training(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """By Taylor saliency and by the norm after training without decay."""
    kinds = (("taylor", "zero"), ("taylor", "oov"), ("norm", "zero"))
    yield from _scored_cuts(bench, wanted, PLAIN, "unpruned, no decay", kinds, "taylor")


def reference(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """The reference's semantics at published rates."""
    if wanted("reference", None):
        yield _learned(bench, "reference", PUBLISHED, PUBLISHED)


def learned_thresholds(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """Thresholds with a push, under each decay."""
    for decay in ROW_DECAYS:
        for push in PUSHES:
            method = f"thresholds, {_in_words(decay)}, alpha {push:g}"
            if wanted(method, None):
                train = TrainConfig(l2=3e-3, t_lr=0.1, alpha=push, row_decay=decay)
                mild = dataclasses.replace(train, group_lasso=RETRAINING.group_lasso)
                yield _learned(bench, method, train, mild)


def smaller_dimension(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """Every row, with fewer columns: as many as come nearest to the budget, at least one."""
    for keep in KEEP_RATES:
        if wanted("smaller D", keep):
            model = bench.model(latent_dim=max(1, round(keep * LATENT_DIM)))
            yield unpruned_run(bench, "smaller D", model, RETRAINING, keep)


def hashing(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """The quotient-remainder trick."""
    for keep in KEEP_RATES:
        if wanted("hashing", keep):
            started = time.monotonic()
            fitted, parameters = fit_hashed(
                bench.model(),
                bench.problem.fields,
                keep,
                (bench.split("train"), bench.split("validation")),
                key=key_of(bench, Phase.RETRAIN),
                epochs=EPOCHS,
                patience=PATIENCE_AT_ONE_RATE,
            )
            record = record_of(bench, "hashing", keep, Phase.BASELINE, bench.model(), fitted)
            seconds = round(time.monotonic() - started, 2)
            yield record | {"table_parameters": parameters, "seconds": seconds}


def unpruned(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """The whole table under coupled L2 of rows; the best weight is chosen by validation AUC."""
    for l2 in TABLE_L2_GRID:
        method = f"unpruned, table l2 {l2:g}"
        if wanted(method, 1.0):
            yield unpruned_run(bench, method, bench.model(), TrainConfig(table_l2=l2), 1.0)


METHODS: tuple[Callable[[Bench, Wanted], Iterator[Record]], ...] = (
    frequency_cuts,
    taylor_under_group_lasso,
    cuts_under_group_lasso,
    reference,
    unpruned,
    cuts_of_plain_training,
    smaller_dimension,
    learned_thresholds,
    hashing,
)
"""The most telling first."""

KEY = ("dataset", "model", "seed", "method", "keep")
"""What tells trainings apart."""


def missing_runs(
    problems: dict[str, Problem],
    models: list[str],
    seeds: range,
    chosen: re.Pattern[str],
    finished: Finished,
) -> Iterator[Record]:
    """Train what is not finished, method by method; every data set and model before a new seed."""
    benches = [
        Bench(problem, model, seed)
        for seed in seeds
        for problem in problems.values()
        for model in models
    ]
    for method in METHODS:
        for bench in benches:
            at = (bench.problem.name, bench.backbone, bench.seed)

            def wanted(label: str, keep: float | None, at: tuple[Any, ...] = at) -> bool:
                return bool(chosen.search(label)) and (*at, label, keep) not in finished

            yield from method(bench, wanted)


def _in_words(decay: str) -> str:
    return decay.replace("group_lasso", "group lasso")


def _scored_cuts(
    bench: Bench,
    wanted: Wanted,
    train: TrainConfig,
    name_unpruned: str,
    kinds: tuple[tuple[str, str], ...],
    gathered: str,
    not_retrained: tuple[str, ...] = (),
) -> Iterator[Record]:
    """Cuts by scores that one training gathers; it is itself the unpruned model under its decay.

    ``not_retrained`` has scores by which the training is cut and left at that.
    """
    names = {kind: f"{kind}, {_in_words(train.row_decay)}" for kind, _ in kinds}
    left = {kind: f"{names.get(kind, kind)}, not retrained" for kind in not_retrained}
    methods = [*(_name(names[kind], oov) for kind, oov in kinds), *left.values()]
    wants_cut = any(wanted(method, keep) for method in methods for keep in KEEP_RATES)
    if not wants_cut and not wanted(name_unpruned, 1.0):
        return
    started = time.monotonic()
    model = bench.model(mode="feature", mode_threshold="budget", row_score=gathered)
    fitted = train_once(bench, Phase.SUPERNET, model, train, gather_scores=True)
    if wanted(name_unpruned, 1.0):
        record = record_of(bench, name_unpruned, 1.0, Phase.BASELINE, model, fitted)
        yield record | {"seconds": round(time.monotonic() - started, 2)}
    gathered_scores = fitted.scores
    assert gathered_scores is not None

    def scores_of(kind: str) -> np.ndarray:
        if kind in _FREQUENCY:
            return _frequency_scores(bench, kind)
        scores = dataclasses.replace(gathered_scores, kind=kind)
        return row_scores(scores, fitted.params.table.rows, bench.problem.fields, fitted.steps)

    for kind, oov in kinds:
        yield from _cuts(bench, wanted, names[kind], scores_of(kind), oov)
    for kind, method in left.items():
        scores = scores_of(kind)
        for keep in KEEP_RATES:
            if wanted(method, keep):
                yield as_trained(bench, method, keep, model, fitted, scores)


def _frequency_scores(bench: Bench, kind: str) -> np.ndarray:
    fields = bench.problem.fields
    state = init_scores(kind, fields.num_features)
    state = dataclasses.replace(state, reads=jnp.asarray(bench.problem.counts, jnp.int32))
    return row_scores(state, jnp.zeros((0, 0)), fields, 0)


def _cuts(
    bench: Bench, wanted: Wanted, name: str, scores: np.ndarray, oov: str
) -> Iterator[Record]:
    method = _name(name, oov)
    model = bench.model(mode="feature", mode_threshold="budget", mode_oov=oov)
    for keep in KEEP_RATES:
        if wanted(method, keep):
            rows = best_share(bench, scores, keep)
            yield retrained(bench, method, keep, model, RETRAINING, rows)


def _name(score: str, oov: str) -> str:
    return score if oov == "zero" else f"{score}, oov"


def _learned(bench: Bench, method: str, train: TrainConfig, retrain: TrainConfig) -> Record:
    fields, model = bench.problem.fields, bench.model(mode="feature")
    fitted = train_once(bench, Phase.SUPERNET, model, train)
    assert fitted.params.thresholds is not None
    mask = table_row_mask(
        fitted.params.table.rows,
        fitted.params.thresholds,
        jnp.asarray(fields.field_of_row),
        model.mode_threshold,
        model.norm,
    )
    record = retrained(bench, method, None, model, retrain, np.asarray(mask))
    largest = float(jnp.max(jnp.abs(fitted.params.thresholds)))
    return record | {"largest_threshold": largest, "supernet_epoch": fitted.best.number}
