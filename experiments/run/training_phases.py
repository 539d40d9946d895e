"""Training: the phases baseline and supernet, and retraining a table, one loop for all."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils.epath import Path

from experiments.run import (
    calibration,
    event_files,
    feature_report,
    preemption,
    processes,
    profiled_steps,
    trained_under,
)
from experiments.run.earlier_run import MEMORY, SCORES
from experiments.run.progress import TrainingProgress
from experiments.run.trained import (
    Run,
    Trained,
    abstract,
    click_rate,
    counts,
    cut_to,
    key_of,
    model_in,
    whole_table,
)
from experiments.run.workdir import append_jsonl, write_jsonl
from optembed_jax import data, metrics
from optembed_jax.data import PreparedData
from optembed_jax.devices.choice import Choice, choose, make_steps
from optembed_jax.devices.parallel import Steps
from optembed_jax.method.threshold import by_block, table_row_mask
from optembed_jax.models.forward import Params, Reading, init_params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.output_bias import of_all_rows, shift_to_rate, shifted
from optembed_jax.models.parameter_count import rows_in_budget
from optembed_jax.rivals.registry import OPTEMBED
from optembed_jax.serving.kept_table import Cut
from optembed_jax.step.optimiser_memory import (
    OptimiserMemory,
    recalled,
    remembered,
    taken_up,
)
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import TrainState, init_state
from optembed_jax.step.train_step import Phase
from optembed_jax.storage import array_file, saved_state, state_manifest
from optembed_jax.table import stand_in
from optembed_jax.table.memory import rows_of_table
from optembed_jax.table.score import keep_best, row_scores
from optembed_jax.training.checkpoint import Checkpoints
from optembed_jax.training.fit import Fitted, fit
from optembed_jax.training.prediction import Batches, Predicted, predict
from optembed_jax.training.resume import Epoch, Position, Saving, resume

_CALIBRATED_ON = 2**16
"""Training rows, whose mean prediction is then known to about a hundredth."""


@dataclasses.dataclass(frozen=True)
class _Devices:
    """How a phase is spread over devices: the choice, its steps, and what they were made of."""

    choice: Choice
    steps: Steps
    model: ModelConfig
    train: TrainConfig
    batch_size: int

    def made_on_host(self, make: Callable[[], Any]) -> Any:
        """What ``make()`` is, made where it would stand, and brought to the host."""
        return self.steps.whole(self.steps.create(make))

    def steps_of(self, phase: Phase, num_features: int) -> Steps:
        """The steps of another phase on the same devices."""
        return make_steps(self.choice, phase, self.model, self.train, self.batch_size, num_features)


def _devices_for(
    run: Run, phase: Phase, folder: Path | None, start: tuple[Params, Any] | None = None
) -> _Devices:
    """How a phase is spread, that starts from ``start``, or from a full table.

    ``folder`` is that of the training; None of one that is none.
    """
    settings, prepared = run.settings, run.prepared
    model = model_in(settings, phase.value)
    batch_size = min(settings.batch_size, prepared.num_rows["train"])
    train = settings.retrain if phase == Phase.RETRAIN else settings.train
    if folder is not None:
        train = dataclasses.replace(train, begun_on=trained_under.device(folder))
    choice = choose(
        settings.parallelism,
        model,
        train,
        prepared.fields,
        start,
        exchange=settings.exchange,
        batch_size=batch_size,
    )
    rows = prepared.fields.num_features
    steps = make_steps(choice, phase, model, train, batch_size, rows)
    return _Devices(choice, steps, model, train, batch_size)


def baseline(run: Run, folder: Path) -> dict[str, Any]:
    """Train the plain model; the record of the phase."""
    devices = _devices_for(run, Phase.BASELINE, folder)
    start = _warm_start(run, "baseline") or _Start()
    return _train(run, folder, Phase.BASELINE, devices, start, whole_table(run))


def fit_baseline(run: Run, folder: Path, told: str, first_rows: int) -> tuple[Epoch, int]:
    """Train the plain model on the first rows; its best epoch, and how many rows they were."""
    devices = _devices_for(run, Phase.BASELINE, folder)
    rows = data.Reader(run.prepared, "train", devices.batch_size, first_rows=first_rows).num_rows
    everything = whole_table(run)
    fitted = _fit(run, folder, Phase.BASELINE, devices, _Start(), everything, told, first_rows)
    return fitted.best, rows


def supernet(run: Run, folder: Path) -> dict[str, Any]:
    """Train table, thresholds and network together; the record of the phase."""
    devices = _devices_for(run, Phase.SUPERNET, folder)
    model, fields = devices.model, run.prepared.fields
    rows_in_budget(model, fields)  # Before training, not after.
    begun = _warm_start(run, "supernet")
    if begun is not None:
        return _train(run, folder, Phase.SUPERNET, devices, begun, whole_table(run))
    rate = click_rate(run)

    def make() -> tuple[Params, Any]:
        return init_params(key_of(run, "supernet"), model, fields, rate)

    if not state_manifest.is_finished(folder / "initial"):
        params, batch_stats = devices.made_on_host(make)
        saved_state.save(folder / "initial", {"params": params, "batch_stats": batch_stats})
    return _train(run, folder, Phase.SUPERNET, devices, _Start(make), whole_table(run))


def retrain_as(run: Run, folder: Path, kept: Trained) -> dict[str, Any]:
    """Train again with the rows and dimensions of a model; the record of the training.

    On arrays that hold only those, which gives what masks give (``compact_model``).
    """
    model, fields = run.settings.model, run.prepared.fields
    begun = _warm_start(run, "retrain")
    full, batch_stats = _retraining_start(run) if begun is None else begun.given
    cut = kept.kept.cut(model, full, fields)
    start = _Start(given=(cut.params, batch_stats))
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

    devices = _devices_for(run, Phase.RETRAIN, folder, start.given)
    form = _Form(kept, cut, lambda params: cut.settled(params, with_stand_ins))
    return _train(run, folder, Phase.RETRAIN, devices, start, cut.reading, form)


@dataclasses.dataclass(frozen=True)
class _Scoring:
    """How a trained model is scored: as which phase, with its steps, and what it reads there."""

    phase: Phase
    steps: Steps
    frozen: Reading


@dataclasses.dataclass(frozen=True)
class _Start:
    """Parameters and batch statistics that training begins with; without either, fresh ones.

    Attributes:
      make: makes them, where they are to stand.
      given: arrays, on the host.
      memory: what optimisers remember of the full model; None where they know nothing.
      told: what is recorded of where it is from.
    """

    make: Callable[[], tuple[Params, Any]] | None = None
    given: Any = None
    memory: OptimiserMemory | None = None
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Form:
    """In which form a full model is trained.

    Attributes:
      kept: rows and dimensions of a retraining; None where nothing is frozen.
      cut: places of its rows, how it is saved, and how its network is cut.
      settled: trained parameters with the stand-ins of what has no row.
    """

    kept: Trained | None
    cut: Cut
    settled: Callable[[Params], Params]


def _whole_form(run: Run, frozen: Reading) -> _Form:
    places = rows_of_table(run.prepared.fields, run.settings.model.latent_dim)
    nothing: Any = None
    cut = Cut(nothing, frozen, places, lambda params: params, lambda params, settle: params)
    return _Form(None, cut, functools.partial(_settled, run.prepared))


def _warm_start(run: Run, phase: str) -> _Start | None:
    """The start of a phase that an earlier run gives; None begins from nothing."""
    if run.warm is None:
        return None
    begun = run.warm.beginning(phase)
    return _Start(
        given=(begun.params, begun.batch_stats),
        memory=begun.memory,
        told={"from": begun.name, "moments": begun.memory is not None},
    )


def _retraining_start(run: Run) -> tuple[Params, Any]:
    """What retraining begins with, of the full model, on the host."""
    model, fields = run.settings.model, run.prepared.fields
    is_rival = run.settings.method != OPTEMBED
    if is_rival or run.settings.retrain_from == "fresh":
        (init_key, _), rate = jax.random.split(key_of(run, "retrain")), click_rate(run)
        if run.settings.retrain_from != "fresh":
            # What a supernet of this seed would start from: a rival has none.
            init_key = key_of(run, "supernet")
        devices = _devices_for(run, Phase.RETRAIN, None)
        made: tuple[Params, Any] = devices.made_on_host(
            lambda: init_params(init_key, model, fields, rate)
        )
        return made
    like = dict(zip(("params", "batch_stats"), abstract(model, run), strict=True))
    place = run.workdir.phase_dir("supernet") / "initial"
    initial = saved_state.restore(place, like, on_host=True)
    return initial["params"], initial["batch_stats"]


def _train(
    run: Run,
    folder: Path,
    phase: Phase,
    devices: _Devices,
    start: _Start,
    frozen: Reading,
    form: _Form | None = None,
) -> dict[str, Any]:
    """Train on from where the phase was left, score the test split once, save; its record.

    ``form`` is that of the model, None where it is full.
    """
    settings, prepared = run.settings, run.prepared
    steps, model = devices.steps, devices.model
    form = form or _whole_form(run, frozen)
    fitted = _fit(run, folder, phase, devices, start, frozen, cut=form.cut)
    opt_state = steps.whole(fitted.opt_state)
    fitted = on_devices = dataclasses.replace(fitted, opt_state=None)

    def reader(split: str, **options: Any) -> data.Reader:
        return data.Reader(prepared, split, devices.batch_size, seed=settings.seed, **options)

    if model.compute_dtype != "float32":
        run.progress.say(f"{phase.value}  the network computes in {model.compute_dtype}")
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
    for warning in warnings:
        run.progress.say(f"{phase.value}  warning: {warning}")
    sample = reader("validation", shuffle=False, remainder="pad", first_rows=feature_report.ROWS)
    worth = feature_report.measured(
        lambda batches: score(batches, final)[:2], sample, prepared.fields, trained, settings.seed
    )
    counted = counts(run, model, trained)
    told = feature_report.saliency(fitted.scores, scored, prepared.fields)
    counted["fields"] = feature_report.joined(counted["fields"], worth, told)
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


def _exchanged(choice: Choice, fitted: Fitted, start: _Start) -> dict[str, Any]:
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


def _settled(prepared: data.PreparedData, params: Params) -> Params:
    """Full parameters with a stand-in in each OOV row that was hardly trained."""
    table = stand_in.reckoned(
        params.table, prepared.fields, prepared.counts, weights=prepared.weight_of_values
    )
    return params if table is params.table else dataclasses.replace(params, table=table)


def _fit(
    run: Run,
    folder: Path,
    phase: Phase,
    devices: _Devices,
    start: _Start,
    frozen: Reading,
    told: str | None = None,
    first_rows: int | None = None,
    cut: Cut | None = None,
) -> Fitted:
    """Train on from where the phase was left; what is fitted stays on the devices.

    Of the training split all rows, or ``first_rows`` of them. Progress is told by the phase's name,
    or as ``told``.
    """
    settings, prepared = run.settings, run.prepared
    steps, model = devices.steps, devices.model
    if devices.batch_size < settings.batch_size:
        run.progress.say(
            f"{phase.value}  batches of {devices.batch_size} rows: the training split has no more"
        )
    if model.compute_dtype != "float32":
        run.progress.say(f"{phase.value}  the network computes in {model.compute_dtype}")
    if devices.choice.kind != "one":
        run.progress.say(f"{phase.value}  {devices.choice}")

    def begin(given: tuple[Params, Any] | None) -> TrainState:
        return init_state(
            key_of(run, phase.value),
            model,
            devices.train,
            prepared.fields,
            start=given if start.make is None else start.make(),
            click_rate=click_rate(run),
            gather_scores=phase == Phase.SUPERNET and model.has_row_budget,
        )

    def reader(split: str, **options: Any) -> data.Reader:
        return data.Reader(prepared, split, devices.batch_size, seed=settings.seed, **options)

    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        state, position = _begin_or_resume(
            run, phase, checkpoints, begin, start, devices, cut or _whole_form(run, frozen).cut
        )
        write_jsonl(folder / "metrics.jsonl", map(dataclasses.asdict, position.history))
        telling = TrainingProgress(
            run.progress, told or phase.value, settings.epochs, devices.batch_size, position.epoch
        )

        events = event_files.written(settings.tensorboard, folder, position.history)
        traced = profiled_steps.traced(
            profiled_steps.steps_of(settings.profile_steps), folder, run.progress.say
        )
        with traced as note, events as add_event, preemption.deferred():

            def on_epoch(epoch: Epoch) -> None:
                append_jsonl(folder / "metrics.jsonl", dataclasses.asdict(epoch))
                add_event(epoch)
                telling.on_epoch(epoch)

            def on_step(step: int, steps: int, loss: jax.Array) -> None:
                note(loss)
                telling.on_step(step, steps, loss)

            return fit(
                state,
                reader(
                    "train",
                    shuffle=True,
                    remainder="drop",
                    process_index=jax.process_index(),
                    process_count=jax.process_count(),
                    first_rows=first_rows,
                ),
                reader("validation", shuffle=False, remainder="pad"),
                frozen,
                phase=phase,
                model=model,
                train=devices.train,
                epochs=settings.epochs,
                patience=settings.patience,
                stopping=settings.stopping,
                on_step=on_step,
                on_epoch=on_epoch,
                steps=steps,
                position=position,
                saving=Saving(
                    checkpoints,
                    due=processes.agreed_due(settings.checkpoint_every),
                    stop=processes.agreed(preemption.requested),
                ),
                logit_shift=math.log(prepared.negative_share),
            )


def _begin_or_resume(
    run: Run,
    phase: Phase,
    checkpoints: Checkpoints,
    begin: Callable[[tuple[Params, Any] | None], TrainState],
    start: _Start,
    devices: _Devices,
    cut: Cut,
) -> tuple[TrainState, Position]:
    """The newest good checkpoint, or the state before the first step."""
    steps, given = devices.steps, start.given
    shapes = jax.eval_shape(begin, given)
    resumed = resume(
        checkpoints,
        steps.layout(shapes),
        on_damage=lambda problem: run.progress.say(f"{phase.value}  warning: {problem}"),
    )
    if resumed is None:
        state = steps.create(begin, steps.place(given))
        if start.memory is None:
            return state, Position()
        network = {name: cut.shrunk(tree) for name, tree in start.memory.network.items()}
        memory = dataclasses.replace(start.memory, network=network)
        opt_state = steps.place(recalled(shapes, memory, cut.places))
        opt_state = jax.tree.map(
            lambda leaf: leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf), opt_state
        )
        return taken_up(state, opt_state, memory.steps, train=devices.train), Position()
    _, position = resumed
    run.progress.say(
        f"{phase.value}  goes on from epoch {position.epoch}, after {position.batch} steps of it"
    )
    return resumed


def _frozen(
    run: Run, folder: Path, phase: Phase, model: ModelConfig, fitted: Fitted, kept: Trained | None
) -> tuple[Trained, np.ndarray | None]:
    """The trained model with the rows and columns that it reads from now on, and the score of each
    row, where rows are chosen by scores.
    """
    fields, params, scored = run.prepared.fields, fitted.params, None
    rows = np.ones(fields.num_features, bool)
    dims, kept_form = np.full(fields.num_fields, model.latent_dim, np.int32), None
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
        rows = keep_best(scores, rows_in_budget(model, fields))
    if kept is not None:
        rows, dims, kept_form = kept.rows, kept.dims, kept.form
    return Trained(params, fitted.batch_stats, rows, dims, kept_form), scored
