"""``pep``: single numbers of the table, of which learned thresholds leave something.

Plug-in embedding pruning (Liu et al., "Learnable Embedding Sizes for Recommender Systems", ICLR
2021, equations 4 to 6): the model reads ``sign(v) * relu(|v| - g(s))`` of each number ``v``, with
``g`` the sigmoid and thresholds ``s`` that are learned with all else. What is not zero is kept, and
is trained again from its initial values, as they do (their section 3.3, after the lottery ticket
hypothesis).

Departures:
- There is a threshold for each column of each field (``field_dim`` in the authors' code); theirs on
  Criteo and Avazu is one for each number, which doubles the table while it is trained.
- ``s`` begins at -7, where it takes nothing yet (.0009), and moves ten times as far in a step as
  other parameters; theirs begins at -15 or -150 and has tens of thousands of steps. On flights,
  four epochs from -15 ended at -10.4, which prunes nothing; from -7 thresholds zeroed
  half of the numbers of the rows that were left (one seed, DeepFM). Like all kernels ``s`` pays
  ``--l2``, which pulls it to 0, and so thresholds to a half.
- The authors stop when few enough numbers are left. Here training ends as anywhere, and the numbers
  kept are those of the largest ``|v| - g(s)``, as many as the budget pays for: which thresholds,
  raised or lowered all alike, would leave last. Zeros do not count, nor do numbers of values that
  training never read, so that unseen values read zeros; with ``--row_decay=group_lasso`` whole rows
  are zeros, and less may be kept than the budget pays for.
- Every value keeps its linear weight and its place in the vocabulary, also one without a number.
- A bundle stores a bit for each number of the table beside those that are kept
  (``table.elements``); the paper does not count what says where they are. In memory it is the whole
  table again.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.rivals.rival import Rival, Task
from optembed_jax.serving.element_table import ElementTable
from optembed_jax.table.score import keep_best

_BEGIN, _FASTER = -7.0, 10.0


def soft_threshold(values: jax.Array, thresholds: jax.Array) -> jax.Array:
    """``sign(v) * relu(|v| - sigmoid(s))``, of arrays that broadcast."""
    return jnp.sign(values) * jax.nn.relu(jnp.abs(values) - jax.nn.sigmoid(thresholds))


class SoftThreshold(nn.Module):
    """What is left of each number.

    Attributes:
      batch_axis: that the batch is split over, or None; it makes no difference.
    """

    batch_axis: BatchAxis | None = None

    @nn.compact
    def __call__(
        self, embedded: jax.Array, *, train: bool, weights: jax.Array | None = None
    ) -> jax.Array:
        """``[B, F, D]`` to ``[B, F, D]``."""
        del train, weights
        begin = nn.initializers.constant(_BEGIN / _FASTER)
        return soft_threshold(embedded, _FASTER * self.param("tenth", begin, embedded.shape[1:]))


def choose(task: Task) -> ElementTable:
    """The numbers that are furthest above their thresholds, as many as the budget pays for.

    Raises:
      InputError: training left none but zeros.
    """
    relaxed, fields = task.relaxed(), task.fields
    bound = np.asarray(jax.nn.sigmoid(jnp.asarray(_FASTER * relaxed.layer["tenth"])))
    size = np.abs(relaxed.rows)
    above = size - bound[fields.field_of_row]
    there = (size > 0) & (task.reads > 0)[:, None]
    count = min(int(there.sum()), task.limit)
    if not count:
        raise InputError(
            "--method=pep: training left no number of the table but zeros; lower --group_lasso, or "
            "--l2"
        )
    above[~there] = -np.inf
    kept = keep_best(above.reshape(-1), count).reshape(above.shape)
    return ElementTable(kept, fields.num_fields)


PEP = Rival(
    "pep",
    "embed",
    choose,
    kept=ElementTable,
    layer=lambda latent_dim: SoftThreshold(),
    least=lambda fields, latent_dim: 1,
    takes_several=False,
)
