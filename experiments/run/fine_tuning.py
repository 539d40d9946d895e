"""What is exported, trained a little further in the bits that were chosen for it."""

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator

import jax
import numpy as np

from experiments.run.bundle_budget import Chosen
from experiments.run.exported import Exported
from experiments.run.progress import clock
from experiments.run.trained import Run
from optembed_jax import data
from optembed_jax.serving.straight_through import FineTuning, fine_tuned
from optembed_jax.table.elements import ELEMENTS
from optembed_jax.table.packing import bits_of

PASSES = 2
"""Over the training rows at most: more would fit them, for there is no regulariser here."""

_SHARE_OF_LR = 0.03

_NUMBERS_A_STEP = 2**20
"""Rounding all numbers anew takes longer than a step, so that of a large model it is held for as
many steps as it has such parts; a row that was not read meanwhile would be rounded as before.
"""


def may_gain(chosen: Chosen) -> bool:
    """Whether a storage rounds enough to train for: it has codes, and not single numbers."""
    storage = chosen.storage
    parts = (*storage.rows, storage.linear, *storage.kernels.values())
    return ELEMENTS not in parts and any(bits_of(part) is not None for part in parts)


def trained_further(
    run: Run, exported: Exported, chosen: Chosen, steps: int
) -> tuple[Exported, Chosen]:
    """The model as it is best by validation AUC in the storage that was chosen for it.

    Args:
      run: whose training rows it is trained on, in batches of its size.
      exported: the model.
      chosen: its storage.
      steps: at most; 0 leaves the model as it is.

    Returns:
      Both, as they were where nothing is better.
    """
    rows = run.prepared.num_rows["train"]
    batch_size = min(run.settings.batch_size, rows)
    steps = min(steps, PASSES * -(-rows // batch_size))
    if not steps or not may_gain(chosen):
        return exported, chosen
    numbers = sum(leaf.size for leaf in jax.tree.leaves(exported.params))
    hold = max(FineTuning.hold, -(-numbers // _NUMBERS_A_STEP))
    tuning = FineTuning(steps, _SHARE_OF_LR * run.settings.train.lr, hold)
    begun = time.monotonic()

    def on_step(step: int, loss: jax.Array) -> None:
        def line() -> str:
            value = float(loss)  # Waits for the step, so it is read only when it is shown.
            seconds = max(time.monotonic() - begun, 1e-9)
            return (
                f"fine-tuning  step {step}/{steps}  {step * batch_size / seconds:,.0f} rows/s  "
                f"loss {value:.4f}  ETA {clock(seconds / step * (steps - step))}"
            )

        run.progress.update(line)

    found = fine_tuned(
        exported.model,
        exported.params,
        exported.batch_stats,
        exported.served.index,
        chosen.storage,
        itertools.islice(_batches(run, exported, batch_size), steps),
        tuning,
        lambda *numbers: exported.auc(chosen.storage, numbers),
        before=chosen.after,
        # What is exported predicts all rows; what is trained on, those that were drawn.
        log_odds=-math.log(run.settings.negative_rate * run.prepared.negative_share),
        on_step=on_step,
    )
    took = f"{steps} steps in {clock(time.monotonic() - begun)}"
    if found is None:
        run.progress.say(f"fine-tuning  {took}  validation AUC as stored no better, left as it was")
        return exported, chosen
    run.progress.say(
        f"fine-tuning  {took}  validation AUC as stored {chosen.after:.6f}, after step "
        f"{found.step} {found.metric:.6f}"
    )
    better = dataclasses.replace(exported, params=found.params, batch_stats=found.batch_stats)
    return better, dataclasses.replace(chosen, after=found.metric)


def _batches(
    run: Run, exported: Exported, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Training rows as the bundle takes them, pass after pass."""
    reader = data.Reader(run.prepared, "train", batch_size, seed=run.settings.seed, remainder="pad")
    for number in range(PASSES):
        for ids, labels, weights in reader.epoch(number):
            yield exported.served.ids(ids), labels, weights
