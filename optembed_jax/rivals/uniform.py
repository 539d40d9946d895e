"""``uniform``: every row, with as many columns as the budget pays for, the same of each field.

What anyone does first who wants a smaller table. It has no paper: of a budget of ``N`` numbers and
``V`` rows

    d_f = floor(N / V)    in each field f

A budget between two dimensions is not spent.

Departures: none.
"""

import numpy as np

from optembed_jax.rivals.rival import Rival, Task, a_column_each, all_rows
from optembed_jax.search.dimension_rules import rule_dims
from optembed_jax.serving.kept_table import RowsAndDims


def choose(task: Task) -> RowsAndDims:
    """One dimension for all fields."""
    return all_rows(
        task, rule_dims("uniform", np.array(task.fields.sizes), task.latent_dim, task.limit)
    )


UNIFORM = Rival("uniform", "embed", choose, least=a_column_each)
