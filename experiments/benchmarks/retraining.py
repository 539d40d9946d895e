"""What retraining costs on the kept vocabulary, against masks on the full table.

    python -m experiments.benchmarks.retraining --json=FILE [--tables=2200000:16:0.2:0.75:128-64]

A model of 39 fields whose sizes fall off as in click logs, batches of 2,048 rows of Zipf ids; what
is kept are random rows and drawn dims. Four trainings take turns in one process, a step each: the
full table without masks, as the baseline trains it; the full table with masks; the kept rows and
columns in stacks; and those with every row updated in every step (``dense``). Times are medians,
of the wall clock and of the process's own time, which other work on the machine disturbs less.
Memory is what the step needs by XLA's own count of its buffers: the state, the batch, and the
largest temporaries at any time.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import json_file
from experiments.benchmarks.click_log import FEWEST_ROWS, fields_of, zipf_batches
from experiments.benchmarks.kept_shape import drawn_kept
from experiments.run import cli
from experiments.run.alternating import alternate
from optembed_jax.errors import InputError
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params, init_params
from optembed_jax.models.selection import Reading, Selection
from optembed_jax.serving.compact_model import keep
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import TrainState, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table.decay import ROW_DECAYS

_TABLES = flags.DEFINE_list(
    "tables",
    ["2200000:16:0.2:0.75:128-64", "5000000:64:0.3:0.41:1024-512-256"],
    "What to measure, each rows:D:share of rows:share of columns:MLP.",
)
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
        phase: Phase,
        model: ModelConfig,
        train: TrainConfig,
        batches: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        step = functools.partial(train_step, phase=phase, model=model, train=train)
        jitted = jax.jit(step, donate_argnums=0)
        self._step = jitted.lower(state, *batches[0], reading).compile()
        plan: Any = self._step.memory_analysis()
        new = plan.output_size_in_bytes - plan.alias_size_in_bytes
        self.bytes_of_step = int(plan.argument_size_in_bytes + plan.temp_size_in_bytes + new)
        self._state, self._reading, self._batches = state, reading, batches
        self.losses: list[float] = []
        self.cpu_ms: list[float] = []

    def take(self) -> None:
        """A step on the next batch."""
        batch = self._batches[len(self.losses) % len(self._batches)]
        started = time.process_time()
        self._state, loss = self._step(self._state, *batch, self._reading)
        self.losses.append(float(loss))
        self.cpu_ms.append(1000 * (time.process_time() - started))


@dataclasses.dataclass(frozen=True)
class Case:
    """A table, what is kept of it, and the network behind it."""

    rows: int
    dim: int
    keep: float
    columns: float
    mlp_dims: tuple[int, ...]


def case_of(text: str) -> Case:
    """The case that a text such as ``2200000:16:0.2:0.75:128-64`` says.

    Raises:
      InputError: it says none.
    """
    try:
        rows, dim, keep, columns, mlp = text.split(":")
        case = Case(
            int(rows), int(dim), float(keep), float(columns), tuple(map(int, mlp.split("-")))
        )
    except ValueError as error:
        raise InputError(
            f"--tables={text}: give rows:D:share of rows:share of columns:MLP, such as "
            "2200000:16:0.2:0.75:128-64"
        ) from error
    is_share = all(0 < share <= 1 for share in (case.keep, case.columns))
    if not is_share or case.rows < FEWEST_ROWS or case.dim < 1:
        raise InputError(
            f"--tables={text}: shares are above 0 and at most 1, rows at least {FEWEST_ROWS}, D 1"
        )
    return case


def measure(case: Case) -> dict[str, Any]:
    """All figures of one table."""
    rng = np.random.default_rng(0)
    fields = fields_of(case.rows)
    model = ModelConfig(model=_MODEL.value, latent_dim=case.dim, mlp_dims=case.mlp_dims)
    plain = dataclasses.replace(model, mode="none")
    train = TrainConfig(row_decay=_DECAY.value)
    dense = dataclasses.replace(train, table_update="dense")
    params, batch_stats = init_params(jax.random.key(0), model, fields)
    mask, dims = drawn_kept(fields, case.keep, case.columns, rng, case.dim)
    small, stacks = keep(model, params, fields, mask, dims)
    masks = Selection(rows=jnp.asarray(mask), dims=jnp.asarray(dims))
    batches = zipf_batches(fields, BATCH, 8)

    def side(
        params: Params, reading: Reading, model: ModelConfig, train: TrainConfig, phase: Phase
    ) -> Side:
        start = params, batch_stats
        state = init_state(jax.random.key(0), model, train, fields, start=start)
        return Side(state, reading, phase, model, train, batches)

    wanted: dict[str, tuple[Params, Reading, ModelConfig, TrainConfig, Phase]] = {
        "full": (params, Selection(), plain, train, Phase.BASELINE),
        "masked": (params, masks, model, train, Phase.RETRAIN),
        "compact": (small, stacks, model, train, Phase.RETRAIN),
        "dense": (small, stacks, model, dense, Phase.RETRAIN),
    }
    sides = {name: side(*of_side) for name, of_side in wanted.items()}
    del params, small, wanted
    times = alternate({name: side.take for name, side in sides.items()}, _REPEATS.value)
    cpu = {name: float(np.median(side.cpu_ms[-_REPEATS.value :])) for name, side in sides.items()}
    memory = {name: side.bytes_of_step for name, side in sides.items()}
    losses = np.array([sides[name].losses for name in ("masked", "compact", "dense")])
    return {
        "model": model.model_name,
        "row_decay": train.row_decay,
        "rows": case.rows,
        "dim": case.dim,
        "mlp_dims": list(case.mlp_dims),
        "rows_kept": int(mask.sum()),
        "columns_kept": round(float(dims.mean()) / case.dim, 4),
        "stacks": [[stack.rows, stack.width] for stack in stacks.stacks],
        **{f"{name}_ms": round(value, 1) for name, value in times.items()},
        **{f"{name}_cpu_ms": round(value, 1) for name, value in cpu.items()},
        **{f"{name}_bytes": value for name, value in memory.items()},
        "step_over_full": round(times["compact"] / times["full"], 3),
        "step_over_masked": round(times["compact"] / times["masked"], 3),
        "cpu_over_full": round(cpu["compact"] / cpu["full"], 3),
        "memory_over_full": round(memory["compact"] / memory["full"], 3),
        "memory_over_masked": round(memory["compact"] / memory["masked"], 3),
        "speedup_over_dense": round(times["dense"] / times["compact"], 3),
        "largest_difference_of_losses": float(np.abs(losses - losses[0]).max()),
    }


def main() -> None:
    """Measure every table, print a line for each, write the JSON."""
    found = []
    for case in map(case_of, _TABLES.value):
        found.append(measure(case))
        print(_line(found[-1]), flush=True)
    first = ("step_over_full", "memory_over_full", "speedup_over_dense")
    json_file.write(
        {name: found[0][name] for name in first} | {**json_file.machine(), "tables": found}
    )


def _line(figures: dict[str, Any]) -> str:
    return (
        f"{figures['model']} V {figures['rows']:,} D {figures['dim']}  "
        f"kept {figures['rows_kept'] / figures['rows']:.0%} x {figures['columns_kept']:.0%}  "
        f"full {figures['full_ms']:.1f}, masked {figures['masked_ms']:.1f}, "
        f"compact {figures['compact_ms']:.1f}, dense {figures['dense_ms']:.1f} ms  "
        f"over full {figures['step_over_full']:.2f} (cpu {figures['cpu_over_full']:.2f}), "
        f"over masked {figures['step_over_masked']:.2f}, "
        f"{figures['speedup_over_dense']:.1f}x of dense  "
        f"memory over full {figures['memory_over_full']:.2f}, "
        f"over masked {figures['memory_over_masked']:.2f}  "
        f"losses differ by {figures['largest_difference_of_losses']:.1e}"
    )


if __name__ == "__main__":
    cli.run(main, goes_on=False)
