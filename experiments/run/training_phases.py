"""Training: the phases baseline and supernet, and retraining a table."""

import dataclasses
from typing import Any

from etils.epath import Path

from experiments.run.phase_devices import devices_for
from experiments.run.phase_fit import fit_phase
from experiments.run.phase_record import train_and_record
from experiments.run.phase_start import Form, Start, retraining_start, warm_start
from experiments.run.trained import Run, click_rate, key_of, whole_table
from optembed_jax import data
from optembed_jax.models.parameter_count import rows_in_budget
from optembed_jax.models.params import Params, init_params
from optembed_jax.serving.kept_table import KeptTable
from optembed_jax.step.train_step import Phase
from optembed_jax.storage import saved_state, state_manifest
from optembed_jax.table import stand_in
from optembed_jax.training.resume import Epoch


def baseline(run: Run, folder: Path) -> dict[str, Any]:
    """Train the plain model; the record of the phase."""
    devices = devices_for(run, Phase.BASELINE, folder)
    start = warm_start(run, "baseline") or Start()
    return train_and_record(run, folder, Phase.BASELINE, devices, start, whole_table(run))


def fit_baseline(run: Run, folder: Path, told: str, first_rows: int) -> tuple[Epoch, int]:
    """Train the plain model on the first rows; its best epoch, and how many rows they were."""
    devices = devices_for(run, Phase.BASELINE, folder)
    rows = data.Reader(run.prepared, "train", devices.batch_size, first_rows=first_rows).num_rows
    everything = whole_table(run)
    fitted = fit_phase(run, folder, Phase.BASELINE, devices, Start(), everything, told, first_rows)
    return fitted.best, rows


def supernet(run: Run, folder: Path) -> dict[str, Any]:
    """Train table, thresholds and network together; the record of the phase."""
    devices = devices_for(run, Phase.SUPERNET, folder)
    model, fields = devices.model, run.prepared.fields
    rows_in_budget(model, fields)  # Before training, not after.
    begun = warm_start(run, "supernet")
    if begun is not None:
        return train_and_record(run, folder, Phase.SUPERNET, devices, begun, whole_table(run))
    rate = click_rate(run)

    def make() -> tuple[Params, Any]:
        return init_params(key_of(run, "supernet"), model, fields, rate)

    if not state_manifest.is_finished(folder / "initial"):
        params, batch_stats = devices.made_on_host(make)
        saved_state.save(folder / "initial", {"params": params, "batch_stats": batch_stats})
    return train_and_record(run, folder, Phase.SUPERNET, devices, Start(make), whole_table(run))


def retrain_as(run: Run, folder: Path, kept: KeptTable) -> dict[str, Any]:
    """Train again what is kept of a model; the record of the training.

    On arrays that hold only those, which gives what masks give (``compact_model``).
    """
    model, fields = run.settings.model, run.prepared.fields
    begun = warm_start(run, "retrain", kept)
    full, batch_stats = retraining_start(run) if begun is None else begun.given
    cut = kept.cut(model, full, fields)
    start = Start(given=(cut.params, batch_stats))
    if begun is not None:
        start = dataclasses.replace(begun, given=start.given)
    of_rows = kept.rows if model.prunes_rows else None

    def with_stand_ins(table: Any) -> Any:
        return stand_in.reckoned(
            table,
            fields,
            run.prepared.counts,
            of_rows,
            is_shared=model.shares_stand_in,
            weights=run.prepared.weight_of_values,
        )

    devices = devices_for(run, Phase.RETRAIN, folder, start.given)
    form = Form(kept, cut, lambda params: cut.settled(params, with_stand_ins))
    return train_and_record(run, folder, Phase.RETRAIN, devices, start, cut.reading, form)
