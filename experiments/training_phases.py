"""The phases that train: baseline, supernet and retraining, one loop for all."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.progress import TrainingProgress
from experiments.trained import Run, Trained, abstract, counts, key_of, load_trained, model_of
from experiments.workdir import append_jsonl
from optembed_jax import checkpoint, data, metrics
from optembed_jax.fit import Epoch, Fitted, fit, predict
from optembed_jax.forward import ModelConfig, Params, Selection, init_params
from optembed_jax.parameter_count import rows_in_budget
from optembed_jax.row_score import keep_best, row_scores
from optembed_jax.threshold import table_row_mask
from optembed_jax.train import Phase, init_state


def baseline(run: Run, folder: Path) -> dict[str, Any]:
    """Train the plain model; the record of the phase."""
    return _train(run, folder, Phase.BASELINE, None, Selection())


def supernet(run: Run, folder: Path) -> dict[str, Any]:
    """Train table, thresholds and network together; the record of the phase."""
    rows_in_budget(run.settings.model, run.prepared.fields)  # Before training, not after.
    start = init_params(key_of(run, "supernet"), run.settings.model, run.prepared.fields)
    checkpoint.save(folder / "initial", {"params": start[0], "batch_stats": start[1]})
    return _train(run, folder, Phase.SUPERNET, start, Selection())


def retrain(run: Run, folder: Path) -> dict[str, Any]:
    """Train again with the rows and dimensions that were found; the record of the phase."""
    settings, fields = run.settings, run.prepared.fields
    supernet = load_trained(run, "supernet")
    dims = supernet.dims
    if settings.model.searches_dims:
        found = run.workdir.require("search", "retrain")["dims"]
        dims = np.array([found[name] for name in fields.names], np.int32)
    start = None
    if settings.retrain_from == "supernet":
        like = dict(zip(("params", "batch_stats"), abstract(settings.model, run), strict=True))
        initial = checkpoint.restore(run.workdir.phase_dir("supernet") / "initial", like)
        start = (initial["params"], initial["batch_stats"])
    frozen = Selection(
        rows=jnp.asarray(supernet.rows) if settings.model.prunes_rows else None,
        dims=jnp.asarray(dims) if settings.model.searches_dims else None,
    )
    return _train(run, folder, Phase.RETRAIN, start, frozen)


def _train(
    run: Run, folder: Path, phase: Phase, start: tuple[Params, Any] | None, frozen: Selection
) -> dict[str, Any]:
    """Train, score the test split once, save; the record of the phase."""
    settings, prepared = run.settings, run.prepared
    model = model_of(phase.value, settings.model)
    batch_size = min(settings.batch_size, prepared.num_rows["train"])
    if batch_size < settings.batch_size:
        run.progress.say(
            f"{phase.value}  batches of {batch_size} rows: the training split has no more"
        )
    train = settings.retrain if phase == Phase.RETRAIN else settings.train
    state = init_state(
        key_of(run, phase.value),
        model,
        train,
        prepared.fields,
        start=start,
        gather_scores=phase == Phase.SUPERNET and model.has_row_budget,
    )

    def reader(split: str, **options: Any) -> data.Reader:
        return data.Reader(prepared, split, batch_size, seed=settings.seed, **options)

    telling = TrainingProgress(run.progress, phase.value, settings.epochs, batch_size)

    def on_epoch(epoch: Epoch) -> None:
        append_jsonl(folder / "metrics.jsonl", dataclasses.asdict(epoch))
        telling.on_epoch(epoch)

    fitted = fit(
        state,
        reader("train", shuffle=True, remainder="drop"),
        reader("validation", shuffle=False, remainder="pad"),
        frozen,
        phase=phase,
        model=model,
        train=train,
        epochs=settings.epochs,
        patience=settings.patience,
        on_step=telling.on_step,
        on_epoch=on_epoch,
    )
    trained = _frozen(run, phase, model, fitted, frozen)
    labels, logits = predict(
        trained.params,
        trained.batch_stats,
        reader("test", shuffle=False, remainder="pad"),
        frozen,
        phase=phase,
        model=model,
    )
    checkpoint.save(folder / "state", trained.as_tree())
    return {
        "val_auc": fitted.best.val_auc,
        "test_auc": metrics.auc(labels, logits),
        "test_logloss": metrics.logloss(labels, logits),
        "test_calibration": metrics.calibration(labels, logits),
        **counts(run, model, trained),
        "best_epoch": fitted.best.number,
        "epochs": len(fitted.epochs),
    }


def _frozen(
    run: Run, phase: Phase, model: ModelConfig, fitted: Fitted, frozen: Selection
) -> Trained:
    """The trained model with the rows and columns that it reads from now on."""
    fields, params = run.prepared.fields, fitted.params
    rows = np.ones(fields.num_features, bool)
    dims = np.full(fields.num_fields, model.latent_dim, np.int32)
    if phase == Phase.SUPERNET and params.thresholds is not None:
        mask = table_row_mask(
            params.table.rows,
            params.thresholds,
            jnp.asarray(fields.field_of_row),
            model.mode_threshold,
            model.norm,
        )
        rows = np.asarray(mask)
    if phase == Phase.SUPERNET and fitted.scores is not None:
        scores = row_scores(fitted.scores, params.table.rows, fields, fitted.steps)
        rows = keep_best(scores, rows_in_budget(model, fields))
    if frozen.rows is not None:
        rows = np.asarray(frozen.rows)
    if frozen.dims is not None:
        dims = np.asarray(frozen.dims)
    return Trained(params, fitted.batch_stats, rows, dims)
