"""Epochs of our training to be timed, one for each line of standard input, as the peers' program.

    python -m experiments.benchmarks.peers.timed_ours FLAGS

The flags are those of ``experiments.baseline``. An epoch reads the prepared rows, takes every step
and brings idle rows up to date, as ``fit`` does; validation is left out.
"""

import json
import sys

import jax
from absl import flags

from experiments.run import cli
from experiments.run import flags as project_flags
from optembed_jax import data
from optembed_jax.devices.parallel import one_device
from optembed_jax.models.selection import Selection
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase

flags.adopt_module_key_flags(project_flags)


def main() -> None:
    """Say ``{"ready": true}``, then ``{"rows": N}`` after each epoch."""
    settings = project_flags.settings()
    prepared = data.prepare(settings.dataset, settings.data, settings.data_dir)
    reader = data.Reader(
        prepared, "train", settings.batch_size, seed=settings.seed, shuffle=True, remainder="drop"
    )
    model, train = settings.model, settings.train
    steps = one_device(Phase.BASELINE, model, train)
    state = steps.place(init_state(jax.random.key(settings.seed), model, train, prepared.fields))
    frozen = steps.place(Selection())
    print(json.dumps({"ready": True}), flush=True)
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            break
        losses = []
        for batch in reader.epoch(number):
            state, loss = steps.train(state, batch.ids, batch.labels, frozen)
            losses.append(loss)
        state = steps.bring_up_to_date(state)
        jax.block_until_ready((state, losses))
        rows = reader.num_batches * settings.batch_size
        print(json.dumps({"rows": rows}), flush=True)


if __name__ == "__main__":
    cli.run(main, goes_on=False)
