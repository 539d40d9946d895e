"""``frequency``: the rows that training reads most often, with all their columns.

The rule of thumb behind every ``min_count``, made exact: the rows are sorted by how often training
reads them, and as many are kept as the budget pays for. One cut for the whole table; rows of equal
frequency are kept in an arbitrary, fixed order.
"""

from optembed_jax.rivals.rival import Rival, Task, best_rows
from optembed_jax.serving.kept_table import RowsAndDims


def choose(task: Task) -> RowsAndDims:
    """The most frequent rows."""
    return best_rows(task, task.reads)


FREQUENCY = Rival("frequency", "feature", choose)
