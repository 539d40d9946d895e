"""A training phase from its start to what it leaves: a state, and the record of how it scores."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils.epath import Path

from experiments.run import calibration, feature_report, processes
from experiments.run.bundle_rows import best_rows, told, uniform
from experiments.run.earlier_run import MEMORY, SCORES
from experiments.run.phase_devices import PhaseDevices, reader_of
from experiments.run.phase_fit import fit_phase
from experiments.run.phase_start import Form, Start, whole_form
from experiments.run.trained import Run, Trained, counts, cut_to
from optembed_jax import metrics
from optembed_jax.data import PreparedData
from optembed_jax.devices.choice import Choice
from optembed_jax.devices.parallel import Steps
from optembed_jax.method.threshold import by_block, table_row_mask
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.output_bias import of_all_rows, shift_to_rate, shifted
from optembed_jax.models.parameter_count import rows_in_budget
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Reading
from optembed_jax.serving.kept_table import KeptTable, RowsAndDims
from optembed_jax.step.optimiser_memory import remembered
from optembed_jax.step.train_step import Phase
from optembed_jax.storage import array_file, saved_state
from optembed_jax.table import stand_in
from optembed_jax.table.score import keep_best, row_scores
from optembed_jax.training.fit import Fitted
from optembed_jax.training.prediction import Batches, Predicted, predict

_CALIBRATED_ON = 2**16
"""Training rows, whose mean prediction is then known to about a hundredth."""


def train_and_record(
    run: Run,
    folder: Path,
    phase: Phase,
    devices: PhaseDevices,
    start: Start,
    frozen: Reading,
    form: Form | None = None,
) -> dict[str, Any]:
    """Train on from where the phase was left, score the test split once, save; its record.

    ``form`` is that of the model, None where it is full.
    """
    settings, prepared = run.settings, run.prepared
    steps, model = devices.steps, devices.model
    form = form or whole_form(run, frozen)
    fitted = fit_phase(run, folder, phase, devices, start, frozen, cut=form.cut)
    opt_state = steps.whole(fitted.opt_state)
    fitted = on_devices = dataclasses.replace(fitted, opt_state=None)

    reader = functools.partial(reader_of, run, devices)

    if devices.choice.kind != "one":
        on_host = steps.whole((fitted.params, fitted.batch_stats, fitted.scores))
        params, batch_stats, scores = on_host
        fitted = dataclasses.replace(fitted, params=params, batch_stats=batch_stats, scores=scores)
    settled_params = form.settled(fitted.params)
    final = on_devices.params
    if settled_params is not fitted.params:
        fitted = dataclasses.replace(fitted, params=settled_params)
        final = steps.place(settled_params)
    trained, scored = _frozen(run, folder, phase, model, fitted, form.kept)

    scoring = _Scoring(phase, steps, steps.place(frozen))
    is_shared = phase == Phase.SUPERNET and model.shares_stand_in
    if fitted.scores is not None or is_shared:
        # A budget cuts after training: what is scored is what is kept, not what was trained.
        cut = devices.steps_of(Phase.RETRAIN, prepared.fields.num_features)
        reading = trained.kept.read_by(model, prepared.fields)
        scoring = _Scoring(Phase.RETRAIN, cut, cut.place(reading))
        if is_shared:
            final = cut.place(cut_to(run, trained, trained.rows))

    def score(batches: Batches, params: Params) -> Predicted:
        return predict(
            params,
            on_devices.batch_stats,
            batches,
            scoring.frozen,
            phase=scoring.phase,
            model=model,
            steps=scoring.steps,
        )

    def predicted(split: str, params: Params, first_rows: int | None = None) -> Predicted:
        rows = reader(split, shuffle=False, remainder="pad", first_rows=first_rows)
        return score(rows, params)

    if settings.calibrate:
        _, logits, weights = predicted("train", final, _CALIBRATED_ON)
        shift = shift_to_rate(logits, prepared.label_rate["train"], weights)
        final, own = (
            dataclasses.replace(params, network=shifted(params.network, shift))
            for params in (final, trained.params)
        )
        trained = dataclasses.replace(trained, params=own)
    if prepared.negative_share < 1:
        final, own = (
            dataclasses.replace(
                params, network=of_all_rows(params.network, prepared.negative_share)
            )
            for params in (final, trained.params)
        )
        trained = dataclasses.replace(trained, params=own)
    validation, test = (predicted(split, final) for split in ("validation", "test"))
    trained = dataclasses.replace(trained, params=form.cut.saved(trained.params))
    if processes.is_first():
        memory = remembered(opt_state, fitted.steps, form.cut.places, trained.params.table)
        nothing = jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, leaf.dtype), trained.params.network
        )
        network = {
            name: form.cut.widened(moments, full=nothing)
            for name, moments in memory.network.items()
        }
        memory = dataclasses.replace(memory, network=network)
        array_file.save(folder / MEMORY, memory.as_arrays())
    del opt_state
    saved_state.save(folder / "state", trained.as_tree())
    calibrations = {
        "validation": metrics.calibration(*validation),
        "test": metrics.calibration(*test),
    }
    warnings = calibration.warnings_of(
        calibrations,
        {split: prepared.clicks(split) for split in ("validation", "test")},
    )
    warnings += calibration.nothing_learned(validation.logits, devices.train)
    for warning in warnings:
        run.progress.say(f"{phase.value}  warning: {warning}")
    sample = reader("validation", shuffle=False, remainder="pad", first_rows=feature_report.ROWS)
    worth = feature_report.measured(
        lambda batches: score(batches, final)[:2], sample, prepared.fields, trained, settings.seed
    )
    counted = counts(run, model, trained)
    saliency = feature_report.saliency(fitted.scores, scored, prepared.fields)
    counted["fields"] = feature_report.joined(counted["fields"], worth, saliency)
    return {
        "val_auc": metrics.auc(*validation),
        "val_calibration": calibrations["validation"],
        "test_auc": metrics.auc(*test),
        "test_logloss": metrics.logloss(*test),
        "test_calibration": calibrations["test"],
        "test_reliability": metrics.reliability(*test),
        **_grouped_aucs(prepared, {"val": validation, "test": test}),
        "warnings": warnings,
        **counted,
        "best_epoch": fitted.best.number,
        "epochs": len(fitted.epochs),
        **_exchanged(devices.choice, fitted, start),
        **({"warm_start": dict(start.told)} if start.told else {}),
    }


@dataclasses.dataclass(frozen=True)
class _Scoring:
    """How a trained model is scored: as which phase, with its steps, and what it reads there."""

    phase: Phase
    steps: Steps
    frozen: Reading


def _exchanged(choice: Choice, fitted: Fitted, start: Start) -> dict[str, Any]:
    """How rows came to who read them; nothing where each device has all."""
    if choice.exchange is None:
        return {}
    total, most = fitted.rounds
    taken = fitted.steps - (0 if start.memory is None else start.memory.steps)
    return {
        "exchange": {
            "form": choice.exchange,
            "bytes_per_round": choice.exchange_bytes[choice.exchange],
            "rounds_per_step": total / max(taken, 1),
            "most_rounds": most,
        }
    }


def _grouped_aucs(
    prepared: PreparedData, predicted: Mapping[str, Predicted]
) -> dict[str, float | None]:
    """The AUC within groups, where rows have them."""
    if prepared.options.get("group") is None:
        return {}
    splits = {"val": "validation", "test": "test"}
    return {
        f"{name}_gauc": metrics.grouped_auc(
            found.labels, found.logits, prepared.groups(splits[name]), found.weights
        )
        for name, found in predicted.items()
    }


def _frozen(
    run: Run, folder: Path, phase: Phase, model: ModelConfig, fitted: Fitted, kept: KeptTable | None
) -> tuple[Trained, np.ndarray | None]:
    """The trained model with the rows and columns that it reads from now on, and the score of each
    row, where rows are chosen by scores.
    """
    fields, params, scored = run.prepared.fields, fitted.params, None
    rows = np.ones(fields.num_features, bool)
    if phase == Phase.SUPERNET and params.thresholds is not None:
        per_row = params.thresholds
        if model.mode_threshold == "field":
            per_row = np.asarray(per_row)[fields.field_of_row]
        rows = by_block(
            lambda table, own, field: table_row_mask(table, own, field, "feature", model.norm),
            params.table.rows,
            per_row,
            fields.field_of_row,
        )
        if model.shares_stand_in:
            rows[fields.oov_ids] = True
    if phase == Phase.SUPERNET and fitted.scores is not None:
        weights = run.prepared.weight_of_values
        scores = scored = row_scores(
            fitted.scores, params.table.rows, fields, fitted.steps, weights
        )
        if run.warm is not None:
            scores = run.warm.scores(scores)
        # The search may try other shares of the rows.
        if processes.is_first():
            array_file.save(folder / SCORES, {"scores": scores})
        if model.shares_stand_in:
            scores = stand_in.always_kept(scores, fields)
        wanted = rows_in_budget(model, fields)
        if model.searches_dims:  # Which is where a limit of the bundle's bytes is kept to.
            rows = keep_best(scores, wanted)
        else:
            rows = best_rows(run, scores, wanted, uniform(model, fields.num_fields))
            if fewer := told(run, rows, wanted):
                run.progress.say(f"{phase.value}  {fewer}")
    if kept is None:
        kept = RowsAndDims(rows, uniform(model, fields.num_fields))
    return Trained(params, fitted.batch_stats, kept), scored
