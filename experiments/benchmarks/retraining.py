"""What retraining costs on compact arrays, against the same retraining with masks.

    python -m experiments.benchmarks.retraining --json=FILE [--rows=100000,1000000]

A model of 39 fields whose sizes fall off as in click logs, D = 64, MLP [1024, 512, 256], batches of
2,048 rows of Zipf ids; what is kept are random rows and drawn dims. Masked and compact training
take turns in one process, a step each; times are medians. Memory is what the step needs by XLA's
own count of its buffers: the state, the batch, and the largest temporaries at any time.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import json_file
from experiments.benchmarks.click_log import fields_of, zipf_batches
from experiments.benchmarks.kept_shape import DIM, drawn_dims, shares
from experiments.run import cli
from experiments.run.alternating import alternate
from optembed_jax.models.forward import Reading, Selection, init_params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.compact_model import compact
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import TrainState, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table.decay import ROW_DECAYS

_ROWS = flags.DEFINE_list("rows", ["100000", "1000000"], "Rows of the table, V.")
_KEEP = flags.DEFINE_list("keep", ["0.3:0.41"], "Shares rows:columns.")
_MODEL = flags.DEFINE_string("model", "deepfm", "Backbone.")
_DECAY = flags.DEFINE_enum("row_decay", "group_lasso", ROW_DECAYS, "What rows pay.")
_REPEATS = flags.DEFINE_integer("repeats", 11, "Timed turns of each.", lower_bound=3)

BATCH = 2048


class Side:
    """A training to be timed, a step at a time.

    Attributes:
      bytes_of_step: peak memory of a step as XLA plans it; what is donated is counted once.
      losses: of the steps taken.
    """

    def __init__(
        self,
        state: TrainState,
        reading: Reading,
        model: ModelConfig,
        train: TrainConfig,
        batches: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        step = functools.partial(train_step, phase=Phase.RETRAIN, model=model, train=train)
        jitted = jax.jit(step, donate_argnums=0)
        self._step = jitted.lower(state, *batches[0], reading).compile()
        plan: Any = self._step.memory_analysis()
        new = plan.output_size_in_bytes - plan.alias_size_in_bytes
        self.bytes_of_step = int(plan.argument_size_in_bytes + plan.temp_size_in_bytes + new)
        self._state, self._reading, self._batches = state, reading, batches
        self.losses: list[float] = []

    def take(self) -> None:
        """A step on the next batch."""
        batch = self._batches[len(self.losses) % len(self._batches)]
        self._state, loss = self._step(self._state, *batch, self._reading)
        self.losses.append(float(loss))


def measure(rows: int, keep: float, columns: float) -> dict[str, Any]:
    """All figures of one table."""
    rng = np.random.default_rng(0)
    fields = fields_of(rows)
    model = ModelConfig(model=_MODEL.value, latent_dim=DIM)
    train = TrainConfig(row_decay=_DECAY.value)
    params, batch_stats = init_params(jax.random.key(0), model, fields)
    mask, dims = rng.random(rows) < keep, drawn_dims(columns, rng)
    small, index = compact(model, params, fields, mask, dims)
    make = functools.partial(init_state, jax.random.key(0), model, train, fields)
    reading = Selection(rows=jnp.asarray(mask), dims=jnp.asarray(dims))
    batches = zipf_batches(fields, BATCH, 8)
    sides = {
        "masked": Side(make(start=(params, batch_stats)), reading, model, train, batches),
        "compact": Side(make(start=(small, batch_stats)), index, model, train, batches),
    }
    del params, small
    times = alternate({name: side.take for name, side in sides.items()}, _REPEATS.value)
    memory = {name: side.bytes_of_step for name, side in sides.items()}
    losses = np.array([side.losses for side in sides.values()])
    return {
        "model": model.model,
        "row_decay": train.row_decay,
        "rows": rows,
        "rows_kept": int(mask.sum()),
        "columns_kept": round(float(dims.mean()) / DIM, 4),
        **{f"{name}_ms": round(value, 1) for name, value in times.items()},
        **{f"{name}_bytes": value for name, value in memory.items()},
        "step_speedup": round(times["masked"] / times["compact"], 3),
        "memory_ratio": round(memory["masked"] / memory["compact"], 3),
        "largest_difference_of_losses": float(np.abs(losses[0] - losses[1]).max()),
    }


def main() -> None:
    """Measure every table, print a line for each, write the JSON."""
    found = []
    for rows in map(int, _ROWS.value):
        for keep, columns in map(shares, _KEEP.value):
            found.append(measure(rows, keep, columns))
            print(_line(found[-1]), flush=True)
    written = {
        "step_speedup": found[0]["step_speedup"],
        "memory_ratio": found[0]["memory_ratio"],
        **json_file.machine(),
        "tables": found,
    }
    json_file.write(written)


def _line(figures: dict[str, Any]) -> str:
    return (
        f"{figures['model']:<7} V {figures['rows']:>9,}  "
        f"kept {figures['rows_kept'] / figures['rows']:.0%} x {figures['columns_kept']:.0%}  "
        f"step {figures['masked_ms']:6.1f} -> {figures['compact_ms']:6.1f} ms "
        f"({figures['step_speedup']:.2f}x)  "
        f"memory {figures['masked_bytes'] / 1e6:,.0f} -> {figures['compact_bytes'] / 1e6:,.0f} MB "
        f"({figures['memory_ratio']:.2f}x)  "
        f"losses differ by {figures['largest_difference_of_losses']:.1e}"
    )


if __name__ == "__main__":
    cli.run(main)
