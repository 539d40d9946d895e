"""What a training step costs as the table grows, against dense updates and other sparse tables.

    python -m experiments.benchmarks.training_step --rows=1000000 --json=FILE

The model has 39 fields whose sizes fall off as in click logs, D = 64, MLP [1024, 512, 256], batches
of 2,048 rows of Zipf ids; thresholds are learned and dimensions drawn. Compared are our step with
the row decay of ``--row_decay``, our step with dense Optax, and the same model in PyTorch with
dense Adam.

Dense Adam is not what people with large tables run, so the plain model (no thresholds, all columns)
is also compared with PyTorch's ``Embedding(sparse=True)`` under SparseAdam, and with FBGEMM's
tables for the CPU under row-wise Adagrad, beside which our side keeps row-wise Adagrad's state too,
as beside SparseAdam Adam's (``--table_optimiser`` is of the others). Whether all of them do the
same work is looked at first, on a small table. PyTorch's sides and FBGEMM run in an environment of
their own, which is made from pinned versions where it is absent (``--tables_env``); without
FBGEMM's wheels for this system its figures are null, and ``fbgemm_missing`` says why. Ratios named
``..._over_PEER`` are the peer's time over ours, by the clock and, with ``_cpu``, in processor time;
``memory_over_PEER`` is our peak memory over the peer's.

``--bag=5`` also times fields whose cells hold five values each, in batches of a fifth of the
examples: as many ids as beside them fields of one value. ``bag_per_id_..._cpu_ms`` is what an id
costs there over what it costs here, in processor time, in the embedding part (whose loss then gives
a gradient of its own, as a network does) and in a whole step.

Each side is a
process of its own, so that its peak memory is its own; they take turns of ``--steps_per_turn``
steps, of which the first is not counted: it finds caches, memory and cores as the other process
left them, which no step of a training does. Turns of one step count all. Figures are medians. The
embedding part is what happens to the table: look-up, masks, their gradients, and the update; the
network's place is taken by half the square of what is read, whose gradient is what is read.
"""

import functools
import os
import pathlib

from absl import flags

from experiments.benchmarks import json_file, same_work
from experiments.benchmarks.step_pairs import asked, line_of, measure
from experiments.benchmarks.step_sides import SIDES, find_peers, threads
from experiments.run import cli
from optembed_jax.table.decay import ROW_DECAYS
from optembed_jax.table.moments import TABLE_OPTIMISERS

_ROWS = flags.DEFINE_list("rows", ["1000000"], "Rows of the table, V.")
_MODELS = flags.DEFINE_list("models", ["deepfm"], "Backbones, or all; the peers have deepfm.")
_DECAY = flags.DEFINE_enum("row_decay", "group_lasso", ROW_DECAYS, "Of our side.")
_OPTIMISER = flags.DEFINE_enum(
    "table_optimiser", "adam", list(TABLE_OPTIMISERS), "Of our side, but beside sparse tables."
)
_REPEATS = flags.DEFINE_integer("repeats", 11, "Timed turns of each side.", lower_bound=3)
_STEPS = flags.DEFINE_integer("steps_per_turn", 3, "Steps of a turn.", lower_bound=1)
_SIDES = flags.DEFINE_list("sides", list(SIDES), f"What to compare with, of {', '.join(SIDES)}.")
_TABLES_ENV = flags.DEFINE_string(
    "tables_env",
    "~/.cache/optembed_jax/tables",
    "Folder of the peers' environment, made if absent.",
)
_TABLES_PYTHON = flags.DEFINE_string(
    "tables_python", None, "An interpreter that has the peers already, instead of --tables_env."
)
_BAG = flags.DEFINE_integer(
    "bag",
    1,
    "Values in a cell: with more than one, the embedding part of fields that have so many in each "
    "cell is timed too, for as many ids.",
    lower_bound=1,
    upper_bound=256,
)
_HUGE_PAGES = flags.DEFINE_bool(
    "huge_pages", False, "Let glibc ask for huge pages in every process (GLIBC_TUNABLES)."
)


def main() -> None:
    """Measure every table, print a line for each, write the JSON."""
    tables = asked(_MODELS.value, _ROWS.value)
    sides, folder = _SIDES.value, pathlib.Path(_TABLES_ENV.value)
    peers = find_peers(sides, _TABLES_PYTHON.value, folder, functools.partial(print, flush=True))
    if _HUGE_PAGES.value:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    gaps = {} if peers is None else same_work.check(peers, sides)
    found = []
    for model, rows in tables:
        how = _DECAY.value, sides, peers, _REPEATS.value, _STEPS.value, _OPTIMISER.value, _BAG.value
        found.append(measure(model, rows, *how))
        print(line_of(found[-1]), flush=True)
    written = found[0] | {
        **json_file.machine(),
        "threads": threads(),
        "peers": {} if peers is None else dict(peers.versions),
        **gaps,
        "huge_pages": _HUGE_PAGES.value,
        "steps_per_turn": _STEPS.value,
        "tables": found,
    }
    json_file.write(written)


if __name__ == "__main__":
    cli.run(main, goes_on=False)
