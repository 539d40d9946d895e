"""``magnitude``: the rows of the largest norm after a plain training, with all their columns.

Magnitude pruning (Han et al., "Learning both Weights and Connections for Efficient Neural
Networks", NeurIPS 2015, section 3): train, drop the weights of the smallest absolute value, train
again. Here a weight is a row and its size a norm (``--norm``), so that what is dropped saves memory
without an index of single numbers: of rows ``e_i`` and a budget of ``R`` it keeps

    { i : ||e_i||_p is among the R largest },  p 1 or 2

Departures: one cut, not several with training between them, which would cost a training each. The
training is the run's baseline, with the run's ``--row_decay``. What is kept is trained again from
its initial values, as all methods here do, where the paper goes on from the trained ones. Rows that
training never read count as 0, and not as what they were started with.
"""

import numpy as np

from optembed_jax.rivals.rival import Rival, Task, best_rows
from optembed_jax.serving.kept_table import RowsAndDims


def choose(task: Task) -> RowsAndDims:
    """The rows of the largest norm."""
    return best_rows(task, np.where(task.reads > 0, task.trained_norms(), 0.0))


MAGNITUDE = Rival("magnitude", "feature", choose, needs_baseline=True)
