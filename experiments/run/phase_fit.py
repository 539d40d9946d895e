"""A training phase's loop: on from where it was left, with progress, checkpoints and traces."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from etils.epath import Path

from experiments.run import event_files, preemption, processes, profiled_steps
from experiments.run.phase_devices import PhaseDevices, reader_of
from experiments.run.phase_start import Start, whole_form
from experiments.run.progress import TrainingProgress
from experiments.run.records import append_jsonl, write_jsonl
from experiments.run.trained import Run, click_rate, key_of
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Reading
from optembed_jax.serving.kept_table import Cut
from optembed_jax.step.optimiser_memory import recalled, taken_up
from optembed_jax.step.train_state import TrainState, init_state
from optembed_jax.step.train_step import Phase
from optembed_jax.training.checkpoint import Checkpoints
from optembed_jax.training.fit import Fitted, fit
from optembed_jax.training.resume import Epoch, Position, Saving, resume


def fit_phase(
    run: Run,
    folder: Path,
    phase: Phase,
    devices: PhaseDevices,
    start: Start,
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

    reader = functools.partial(reader_of, run, devices)
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        state, position = _begin_or_resume(
            run, phase, checkpoints, begin, start, devices, cut or whole_form(run, frozen).cut
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
    start: Start,
    devices: PhaseDevices,
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
        return taken_up(state, opt_state, memory.steps, train=devices.train), Position()
    _, position = resumed
    run.progress.say(
        f"{phase.value}  goes on from epoch {position.epoch}, after {position.batch} steps of it"
    )
    return resumed
