"""The ways to make a table smaller that are compared, each from data to test scores.

Every method yields records, one per model trained for its sake; ``row_pruning`` keeps them. All
models share the sizes and the loop of :func:`train_once`; all that are pruned to a budget share the
retraining too, so that they differ in nothing but the rows they keep.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.quotient_remainder import fit_hashed
from experiments.benchmarks.row_pruning_data import Problem, Split
from experiments.benchmarks.runs_file import Record
from optembed_jax import metrics
from optembed_jax.fit import Fitted, fit, predict
from optembed_jax.forward import ModelConfig, Selection
from optembed_jax.optimisers import TrainConfig
from optembed_jax.parameter_count import count_parameters
from optembed_jax.row_decay import ROW_DECAYS
from optembed_jax.row_score import init_scores, keep_best, kept_by_frequency, row_scores
from optembed_jax.threshold import table_row_mask
from optembed_jax.train import Phase
from optembed_jax.train_state import init_state

KEEP_RATES = (0.5, 0.2, 0.1, 0.05)
LATENT_DIM, BATCH_SIZE, EPOCHS, PATIENCE = 16, 1024, 10, 2

UNDER_RENT = TrainConfig(row_decay="rent", rent=1e-3)
PLAIN = TrainConfig(row_decay="none")
RETRAINING = UNDER_RENT
"""Of everything that is pruned to a budget, so that only the choice of rows differs."""

PUBLISHED = TrainConfig(l2=1e-5, t_lr=1e-4, alpha=1e-5, table_update="dense")
"""The reference: coupled L2 in a dense Adam, thresholds at a published rate."""

PUSHES = (1e-2, 3e-2)
"""Weights of the thresholds' regulariser, with ``t_lr`` 0.1: the paper's move almost nothing."""

L2_GRID = (1e-3, 1e-2, 3e-2)

_FREQUENCY = ("frequency", "frequency_per_field")

NOT_RETRAINED = {score: f"{score}, not retrained" for score in ("taylor, rent", "frequency")}
"""Methods that cut a training by a score and leave it at that."""

_ALL = Selection()

Wanted = Callable[[str, float | None], bool]
"""Whether a method at a keep rate (None where nobody chooses it) has still to be run."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a method is run on.

    Attributes:
      problem: the data.
      backbone: name of the model.
      seed: of initial values and of the order of the training rows.
    """

    problem: Problem
    backbone: str
    seed: int

    def model(self, **options: Any) -> ModelConfig:
        """The model of all methods, apart from how it is pruned."""
        given = {"latent_dim": LATENT_DIM, "mode": "none", **options}
        return ModelConfig(self.backbone, mlp_dims=(128, 64), **given)

    def split(self, name: str) -> Split:
        """Batches of a split; those of the training split are shuffled."""
        ids, labels = self.problem.arrays[name]
        if name == "train":
            return Split(ids, labels, BATCH_SIZE, self.seed)
        return Split(ids, labels, 4 * BATCH_SIZE)


def frequency_cuts(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """The most frequent rows: of the whole table, or the same share of each field."""
    for kind in _FREQUENCY:
        for oov in ("zero", "oov"):
            yield from _cuts(bench, wanted, kind, _frequency_scores(bench, kind), oov)


def cuts_under_rent(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """By the norm of the last epoch's steps, and by the last norm, both under rent."""
    kinds = (("mean_norm", "zero"), ("mean_norm", "oov"), ("norm", "zero"))
    yield from _scored_cuts(bench, wanted, UNDER_RENT, "unpruned, rent", kinds, "mean_norm")


def taylor_under_rent(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """By Taylor saliency under rent, so that one decay serves both trainings: the default.

    And what that training itself is, not retrained, once it is cut by a score.
    """
    kinds = (("taylor", "zero"), ("taylor", "oov"))
    uncut = {NOT_RETRAINED["taylor, rent"]: None, NOT_RETRAINED["frequency"]: "frequency"}
    yield from _scored_cuts(bench, wanted, UNDER_RENT, "unpruned, rent", kinds, "taylor", uncut)


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
            method = f"thresholds, {decay}, alpha {push:g}"
            if wanted(method, None):
                train = TrainConfig(l2=3e-3, t_lr=0.1, alpha=push, row_decay=decay)
                mild = dataclasses.replace(train, rent=RETRAINING.rent)
                yield _learned(bench, method, train, mild)


def smaller_dimension(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """Every row, with fewer columns: as many as come nearest to the budget, at least one."""
    for keep in KEEP_RATES:
        if wanted("smaller D", keep):
            model = bench.model(latent_dim=max(1, round(keep * LATENT_DIM)))
            yield _unpruned(bench, "smaller D", model, RETRAINING, keep)


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
                key=_key(bench, Phase.RETRAIN),
                epochs=EPOCHS,
                patience=PATIENCE,
            )
            record = _record(bench, "hashing", keep, Phase.BASELINE, bench.model(), fitted)
            seconds = round(time.monotonic() - started, 2)
            yield record | {"table_parameters": parameters, "seconds": seconds}


def unpruned(bench: Bench, wanted: Wanted) -> Iterator[Record]:
    """The whole table under coupled L2; the best weight is chosen by validation AUC."""
    for l2 in L2_GRID:
        method = f"unpruned, l2 {l2:g}"
        if wanted(method, 1.0):
            yield _unpruned(bench, method, bench.model(), TrainConfig(l2=l2), 1.0)


METHODS: tuple[Callable[[Bench, Wanted], Iterator[Record]], ...] = (
    frequency_cuts,
    taylor_under_rent,
    cuts_under_rent,
    reference,
    unpruned,
    cuts_of_plain_training,
    smaller_dimension,
    learned_thresholds,
    hashing,
)
"""The most telling first."""


def train_once(
    bench: Bench,
    phase: Phase,
    model: ModelConfig,
    train: TrainConfig,
    frozen: Selection = _ALL,
    *,
    gather_scores: bool = False,
) -> Fitted:
    """A model trained until validation AUC no longer rises."""
    state = init_state(
        _key(bench, phase), model, train, bench.problem.fields, gather_scores=gather_scores
    )
    return fit(
        state,
        bench.split("train"),
        bench.split("validation"),
        frozen,
        phase=phase,
        model=model,
        train=train,
        epochs=EPOCHS,
        patience=PATIENCE,
    )


def _scored_cuts(
    bench: Bench,
    wanted: Wanted,
    train: TrainConfig,
    name_unpruned: str,
    kinds: tuple[tuple[str, str], ...],
    gathered: str,
    not_retrained: Mapping[str, str | None] = MappingProxyType({}),
) -> Iterator[Record]:
    """Cuts by scores that one training gathers; it is itself the unpruned model under its decay.

    ``not_retrained`` has methods that keep the training as it is, and of each the frequency that
    cuts it, or None for what it gathered.
    """
    names = {kind: f"{kind}, {train.row_decay}" for kind, _ in kinds}
    methods = [*(_name(names[kind], oov) for kind, oov in kinds), *not_retrained]
    wants_cut = any(wanted(method, keep) for method in methods for keep in KEEP_RATES)
    if not wants_cut and not wanted(name_unpruned, 1.0):
        return
    started = time.monotonic()
    model = bench.model(mode="feature", mode_threshold="budget", row_score=gathered)
    fitted = train_once(bench, Phase.SUPERNET, model, train, gather_scores=True)
    if wanted(name_unpruned, 1.0):
        record = _record(bench, name_unpruned, 1.0, Phase.BASELINE, model, fitted)
        yield record | {"seconds": round(time.monotonic() - started, 2)}
    gathered_scores = fitted.scores
    assert gathered_scores is not None

    def scores_of(kind: str) -> np.ndarray:
        scores = dataclasses.replace(gathered_scores, kind=kind)
        return row_scores(scores, fitted.params.table.rows, bench.problem.fields, fitted.steps)

    for kind, oov in kinds:
        yield from _cuts(bench, wanted, names[kind], scores_of(kind), oov)
    for method, frequency in not_retrained.items():
        scores = _frequency_scores(bench, frequency) if frequency else scores_of(gathered)
        for keep in KEEP_RATES:
            if wanted(method, keep):
                yield _as_trained(bench, method, keep, model, fitted, scores)


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
            rows = _best_share(bench, scores, keep)
            yield _retrained(bench, method, keep, model, RETRAINING, rows)


def _best_share(bench: Bench, scores: np.ndarray, keep: float) -> np.ndarray:
    return keep_best(scores, round(keep * bench.problem.fields.num_features))


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
    record = _retrained(bench, method, None, model, retrain, np.asarray(mask))
    largest = float(jnp.max(jnp.abs(fitted.params.thresholds)))
    return record | {"largest_threshold": largest, "supernet_epoch": fitted.best.number}


def _retrained(
    bench: Bench,
    method: str,
    keep: float | None,
    model: ModelConfig,
    train: TrainConfig,
    rows: np.ndarray,
) -> Record:
    started, frozen = time.monotonic(), Selection(rows=jnp.asarray(rows))
    fitted = train_once(bench, Phase.RETRAIN, model, train, frozen)
    record = _record(bench, method, keep, Phase.RETRAIN, model, fitted, frozen)
    return record | {"seconds": round(time.monotonic() - started, 2)}


def _as_trained(
    bench: Bench, method: str, keep: float, model: ModelConfig, fitted: Fitted, scores: np.ndarray
) -> Record:
    """A training that knew every row, without those that are not kept."""
    frozen = Selection(rows=jnp.asarray(_best_share(bench, scores, keep)))
    record = _record(bench, method, keep, Phase.RETRAIN, model, fitted, frozen)
    cut = _predicted(bench, "validation", Phase.RETRAIN, model, fitted, frozen)
    return record | {"val_auc": metrics.auc(*cut), "seconds": 0.0}


def _unpruned(
    bench: Bench, method: str, model: ModelConfig, train: TrainConfig, keep: float
) -> Record:
    started = time.monotonic()
    fitted = train_once(bench, Phase.BASELINE, model, train)
    record = _record(bench, method, keep, Phase.BASELINE, model, fitted)
    return record | {"seconds": round(time.monotonic() - started, 2)}


def _record(
    bench: Bench,
    method: str,
    keep: float | None,
    phase: Phase,
    model: ModelConfig,
    fitted: Fitted,
    frozen: Selection = _ALL,
) -> Record:
    """What a trained model came to on the test split, and what it holds."""
    fields = bench.problem.fields
    labels, logits = _predicted(bench, "test", phase, model, fitted, frozen)
    rows = np.ones(fields.num_features, bool) if frozen.rows is None else np.asarray(frozen.rows)
    count = count_parameters(model, fitted.params, fields, rows)
    bands = kept_by_frequency(bench.problem.counts, rows)
    return {
        "dataset": bench.problem.name,
        "model": bench.backbone,
        "seed": bench.seed,
        "method": method,
        "keep": keep,
        "rows_kept": int(rows.sum()),
        "table_parameters": count.table,
        "full_parameters": fields.num_features * LATENT_DIM,
        "val_auc": fitted.best.val_auc,
        "test_auc": metrics.auc(labels, logits),
        "test_logloss": metrics.logloss(labels, logits),
        "best_epoch": fitted.best.number,
        "epochs": len(fitted.epochs),
        "kept_by_frequency": [band["rows_kept"] for band in bands],
    }


def _predicted(
    bench: Bench, split: str, phase: Phase, model: ModelConfig, fitted: Fitted, frozen: Selection
) -> tuple[np.ndarray, np.ndarray]:
    return predict(
        fitted.params,
        fitted.batch_stats,
        bench.split(split),
        frozen,
        phase=phase,
        model=model,
    )


def _key(bench: Bench, phase: Phase) -> jax.Array:
    return jax.random.fold_in(jax.random.key(bench.seed), list(Phase).index(phase))
