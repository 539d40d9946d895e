"""What a training step of the supernet costs as the table grows, against dense updates.

    python -m experiments.benchmarks.training_step --rows=1000000 --json=FILE

The model has 39 fields whose sizes fall off as in click logs, D = 64, MLP [1024, 512, 256], batches
of 2,048 rows of Zipf ids; thresholds are learned and dimensions drawn. Compared are our step with
the row decay of ``--row_decay``, our step with dense Optax, and the same model in PyTorch with
dense Adam (``pip install optembed-jax[bench]``; without it that side is left out). Each side is a
process of its own, so that its peak memory is its own; they take turns of ``--steps_per_turn``
steps, of which the first is not counted: it finds caches, memory and cores as the other process
left them, which no step of a training does. Turns of one step count all. Figures are medians. The
embedding part is what happens to the table: look-up, masks, their gradients, and the update; the
network's place is taken by half the square of what is read, whose gradient is what is read.
"""

import os

from absl import flags

from experiments.benchmarks import json_file
from experiments.benchmarks.step_comparison import asked, installed, line_of, measure
from experiments.run import cli
from optembed_jax.table.decay import ROW_DECAYS

_ROWS = flags.DEFINE_list("rows", ["1000000"], "Rows of the table, V.")
_MODELS = flags.DEFINE_list("models", ["deepfm"], "Backbones, or all; PyTorch has deepfm.")
_DECAY = flags.DEFINE_enum("row_decay", "rent", ROW_DECAYS, "Of our side.")
_REPEATS = flags.DEFINE_integer("repeats", 11, "Timed turns of each side.", lower_bound=3)
_STEPS = flags.DEFINE_integer("steps_per_turn", 3, "Steps of a turn.", lower_bound=1)
_SIDES = flags.DEFINE_list("sides", ["torch", "dense", "embedding"], "What to compare with.")
_HUGE_PAGES = flags.DEFINE_bool(
    "huge_pages", False, "Let glibc ask for huge pages in every process (GLIBC_TUNABLES)."
)


def main() -> None:
    """Measure every table, print a line for each, write the JSON."""
    tables = asked(_MODELS.value, _ROWS.value)
    sides = installed(_SIDES.value)
    if _HUGE_PAGES.value:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    found = []
    for model, rows in tables:
        found.append(measure(model, rows, _DECAY.value, sides, _REPEATS.value, _STEPS.value))
        print(line_of(found[-1]), flush=True)
    written = found[0] | {
        **json_file.machine(),
        "huge_pages": _HUGE_PAGES.value,
        "steps_per_turn": _STEPS.value,
        "tables": found,
    }
    json_file.write(written)


if __name__ == "__main__":
    cli.run(main)
