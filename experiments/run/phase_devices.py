"""How a training phase is spread over the devices at hand."""

import dataclasses
from collections.abc import Callable
from typing import Any

from etils.epath import Path

from experiments.run import trained_under
from experiments.run.trained import Run, model_in
from optembed_jax import data
from optembed_jax.devices.choice import Choice, choose, make_steps
from optembed_jax.devices.parallel import Steps
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_step import Phase


@dataclasses.dataclass(frozen=True)
class PhaseDevices:
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


def reader_of(run: Run, devices: PhaseDevices, split: str, **options: Any) -> data.Reader:
    """Batches of a split, of the phase's size, shuffled by the run's seed where they are."""
    return data.Reader(run.prepared, split, devices.batch_size, seed=run.settings.seed, **options)


def devices_for(
    run: Run, phase: Phase, folder: Path | None, start: tuple[Params, Any] | None = None
) -> PhaseDevices:
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
    return PhaseDevices(choice, steps, model, train, batch_size)
