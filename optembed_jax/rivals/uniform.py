"""``uniform``: every row, with as many columns as the budget pays for, the same of each field.

What anyone does first who wants a smaller table. A budget between two dimensions is not spent.
"""

import numpy as np

from optembed_jax.rivals.rival import Choice, Rival, Task, all_rows
from optembed_jax.search.dimension_rules import rule_dims


def choose(task: Task) -> Choice:
    """One dimension for all fields."""
    return all_rows(
        task, rule_dims("uniform", np.array(task.fields.sizes), task.latent_dim, task.limit)
    )


UNIFORM = Rival("uniform", "embed", choose)
