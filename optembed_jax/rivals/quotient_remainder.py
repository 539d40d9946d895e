"""``qr``: of each field two small tables, whose rows multiplied tell all its values apart.

The quotient-remainder trick (Shi et al., "Compositional Embeddings Using Complementary Partitions
for Memory-Efficient Recommendation Systems", KDD 2020, section 2, with element-wise multiplication,
which they find best): value ``i`` of a field reads

    x_i = Q[i // m] * R[i % m]    element by element,

so that ``V`` values differ though ``ceil(V / m) + m`` rows are stored. ``m`` is one share of each
field's values (the paper: their number by the number of collisions), the share being the one that
spends most of the budget; a field of which that stores no fewer rows keeps its own, as the paper's
threshold has it.

Departures: ``m`` is nowhere below the square root of ``V``, where both tables are as small as can
be. Quotients begin as rows do anywhere here and remainders between .5 and 1.5 (the authors' code
draws both between the root of ``1 / V`` and 1, in which all products are positive). Linear weights
are one more column of the rows, those of remainders begin at 1. Who has the first id of a field is
an unseen value, which so reads the first quotient and remainder, shared with others.
"""

import math

import numpy as np

from optembed_jax.errors import BudgetError
from optembed_jax.fields import Fields
from optembed_jax.rivals.rival import Rival, Task
from optembed_jax.serving.composed_table import ComposedTable
from optembed_jax.table.composition import QuotientRemainder

_SHARES = 2000
"""Shares of the values that are tried, evenly from 0 to 1."""


def remainders_of(size: int, share: float) -> int:
    """Remainders of a field of ``size`` values; 0 where it keeps a row for each."""
    count = max(int(share * size), math.isqrt(size - 1) + 1)
    return count if -(-size // count) + count < size else 0


def options(sizes: tuple[int, ...]) -> list[QuotientRemainder]:
    """What shares of the values come to, of fields of these sizes; no two alike."""
    shares = np.linspace(0, 1, _SHARES + 1).tolist()
    found = [
        QuotientRemainder(sizes, tuple(remainders_of(size, share) for size in sizes))
        for share in shares
    ]
    return list(dict.fromkeys(found))


def choose(task: Task) -> ComposedTable:
    """The share of the values that spends most of the budget.

    Raises:
      BudgetError: the smallest tables that tell all values apart are larger.
    """
    tried, budget = options(task.fields.sizes), task.limit // task.latent_dim
    fitting = [option for option in tried if option.rows <= budget]
    if not fitting:
        raise BudgetError(
            f"a budget of {task.limit:,} parameters pays for {budget} rows of {task.latent_dim} "
            f"columns, and telling all values apart takes {min(o.rows for o in tried)}; raise it"
        )
    best = max(fitting, key=lambda option: option.rows)
    return ComposedTable(best, task.latent_dim, task.seed)


def least(fields: Fields, latent_dim: int) -> int:
    """Numbers of the smallest tables that tell all values apart."""
    return latent_dim * min(option.rows for option in options(fields.sizes))


QUOTIENT_REMAINDER = Rival("qr", "embed", choose, kept=ComposedTable, least=least)
