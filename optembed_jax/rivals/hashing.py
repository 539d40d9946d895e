"""``hash``: one table of fewer rows than there are values, and a hash of each value says which.

Feature hashing (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009,
equation 1): feature ``j`` of weight ``x_j`` adds ``xi(j) * x_j`` to place ``h(j)`` of ``B``, so
that a model's weight of it is ``xi(j) * w[h(j)]``, with two hash functions ``h`` to ``0..B-1`` and
``xi`` to 1 and -1. Here a weight is a row: ``e_j = xi(j) * E[h(j)]``, and likewise its linear
weight. All fields share the table, as in the paper. The hash is seeded by the run's seed, so that
what collides differs between seeds.

Departures: what is hashed is the id of a value in the data set's vocabulary, and values without an
id (unseen, rare) share their field's; the paper hashes texts and keeps no vocabulary. So the bundle
has a vocabulary of all values, which this method could do without, and its bytes are counted with
it.
"""

from optembed_jax.errors import BudgetError
from optembed_jax.rivals.rival import Rival, Task
from optembed_jax.serving.composed_table import ComposedTable
from optembed_jax.table.composition import Hashed


def choose(task: Task) -> ComposedTable:
    """As many rows as the budget pays for, at most one for each value.

    Raises:
      BudgetError: it pays for none.
    """
    rows = min(task.limit // task.latent_dim, task.fields.num_features)
    if rows < 1:
        raise BudgetError(
            f"a budget of {task.limit:,} parameters pays for no row of {task.latent_dim} columns; "
            "raise it"
        )
    return ComposedTable(Hashed(task.fields.sizes, rows, task.seed), task.latent_dim, task.seed)


HASH = Rival("hash", "embed", choose, kept=ComposedTable)
