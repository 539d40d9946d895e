"""``mde``: every row, fields of popular rows with more columns.

Mixed dimension embeddings (Ginart et al., "Mixed Dimension Embeddings with Application to
Memory-Efficient Recommendation Systems", arXiv 1909.11810), popularity-based sizing (Algorithm 2):
``d_f = lambda * p_f ** alpha``, where ``p_f`` is the chance that an example reads a given row of
field ``f``. Each example reads one row of each field, so that ``p_f = 1 / V_f`` on average. The
temperature ``alpha`` is .3, in the range that the paper finds best; 0 would be ``uniform``.

Departures: ``lambda`` is the largest that the budget allows, and dimensions are rounded to whole
numbers in 1..``D``, not to powers of two. There is no projection of the ``d_f`` columns to ``D``:
as with OptEmbed's dimensions, the backbone reads ``d_f`` columns, and zeros where it needs ``D``.
Before a perceptron a projection changes nothing that it could not learn itself; in products of
fields (FM, IPNN) it would.
"""

import numpy as np

from optembed_jax.rivals.rival import Rival, Task, a_column_each, all_rows
from optembed_jax.search.dimension_rules import dims_in_proportion
from optembed_jax.serving.kept_table import RowsAndDims

TEMPERATURE = 0.3


def choose(task: Task) -> RowsAndDims:
    """Dimensions by popularity."""
    rows = np.array(task.fields.sizes)
    return all_rows(task, dims_in_proportion(popularity(rows), rows, task.latent_dim, task.limit))


def popularity(rows: np.ndarray) -> np.ndarray:
    """``p_f ** alpha``, float64 ``[F]``, of fields of so many rows, int ``[F]``."""
    return (1.0 / np.asarray(rows, np.float64)) ** TEMPERATURE


MIXED_DIMENSIONS = Rival("mde", "embed", choose, least=a_column_each)
