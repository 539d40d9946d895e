"""``frequency``: the rows that training reads most often, with all their columns.

The rule of thumb behind every ``min_count``, made exact. It has no paper: of ``n_i``, the times
that training reads row ``i``, and ``R``, the rows of ``D`` numbers that a budget pays for, it keeps

    { i : n_i is among the R largest }

One cut for the whole table; rows of equal frequency are kept in an arbitrary, fixed order.

Departures: none from a paper; a ``min_count`` cuts at a number of reads, not at one of rows.
"""

from optembed_jax.rivals.rival import Rival, Task, best_rows
from optembed_jax.serving.kept_table import RowsAndDims


def choose(task: Task) -> RowsAndDims:
    """The most frequent rows."""
    return best_rows(task, task.reads)


FREQUENCY = Rival("frequency", "feature", choose)
