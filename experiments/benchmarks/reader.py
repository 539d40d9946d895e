"""How fast the reader gives shuffled batches, and what part of a training step that is.

python -m experiments.benchmarks.reader --json=FILE

Prepares text of Criteo's shape (criteo_text.py; 39 fields; not timed), reads whole epochs of it
with full shuffling, and times DeepFM's supernet step of the paper's sizes on the same batches.
`share_of_step` is the time that reading a batch takes, by itself, over that of the step.
"""

import functools
import os
import pathlib
import statistics
import tempfile
import time
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.benchmarks import json_file
from experiments.benchmarks.criteo_text import write_text
from experiments.run import cli
from optembed_jax import data
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase, train_step

_ROWS = flags.DEFINE_integer("rows", 1_000_000, "Rows to prepare.", lower_bound=10_000)
_EPOCHS = flags.DEFINE_integer("epochs", 5, "Epochs to read; the median counts.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10, "Training steps to time; the median counts.")
_SCRATCH = flags.DEFINE_string("scratch", None, "Folder for the text and the prepared data.")
_BATCH = 2048


def _epoch_seconds(reader: data.Reader, epoch: int) -> float:
    begun = time.perf_counter()
    total = 0
    for batch in reader.epoch(epoch):
        total += int(batch.ids[-1, -1])  # the batch is really there
    assert total > 0
    return time.perf_counter() - begun


def _step_seconds(prepared: data.PreparedData, steps: int) -> float:
    model, train = ModelConfig("deepfm", latent_dim=64), TrainConfig(row_decay="group_lasso")
    state = init_state(jax.random.key(0), model, train, prepared.fields)
    jitted = functools.partial(train_step, phase=Phase.SUPERNET, model=model, train=train)
    step = jax.jit(jitted, donate_argnums=0)
    seconds = []
    batches = data.prefetch_to_device(data.Reader(prepared, "train", _BATCH).epoch(0))
    for number, batch in zip(range(steps + 2), batches, strict=False):
        begun = time.perf_counter()
        state, loss = step(state, batch.ids, batch.labels, Selection())
        jax.block_until_ready(loss)
        if number >= 2:  # compiling, and the first step after it
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def measure(rows: int, epochs: int, steps: int, folder: pathlib.Path) -> dict[str, Any]:
    """Prepares the rows in a folder and gives the figures."""
    write_text(folder / "train.txt", rows)
    options = data.DataOptions(raw_dir=str(folder))
    prepared = data.prepare("criteo_display", options, folder / "prepared")
    reader = data.Reader(prepared, "train", _BATCH)
    load = os.getloadavg()[0]
    _epoch_seconds(reader, 0)
    seconds = statistics.median(_epoch_seconds(reader, 1 + e) for e in range(epochs))
    per_batch = seconds / reader.num_batches
    step = _step_seconds(prepared, steps)
    return {
        "rows_per_second": round(reader.num_batches * _BATCH / seconds),
        "share_of_step": round(per_batch / step, 5),
        "batch_milliseconds": round(1e3 * per_batch, 3),
        "step_milliseconds": round(1e3 * step, 1),
        "batch_size": _BATCH,
        "fields": prepared.fields.num_fields,
        "features": prepared.fields.num_features,
        "rows": prepared.num_rows["train"],
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "load_before": round(load, 2),
        "numpy": np.__version__,
    }


def main() -> None:
    """Measures, prints a table, and writes the JSON file."""
    with tempfile.TemporaryDirectory(prefix="reader-", dir=_SCRATCH.value) as folder:
        figures = measure(_ROWS.value, _EPOCHS.value, _STEPS.value, pathlib.Path(folder))
    for name, value in figures.items():
        print(f"{name:<20}{value:>16,}" if isinstance(value, int) else f"{name:<20}{value:>16}")
    json_file.write(figures)


if __name__ == "__main__":
    cli.run(main, goes_on=False)
