"""``pep``: single numbers of the table, of which learned thresholds leave something.

Plug-in embedding pruning (Liu et al., "Learnable Embedding Sizes for Recommender Systems", ICLR
2021, equations 4 to 6): the model reads ``sign(v) * relu(|v| - g(s))`` of each number ``v``, with
``g`` the sigmoid and thresholds ``s`` that are learned with all else. What is not zero is kept, and
is trained again from its initial values, as they do (their section 3.3, after the lottery ticket
hypothesis).

Departures:
- There is a threshold for each column of each field (``field_dim`` in the authors' code); theirs on
  Criteo and Avazu is one for each number, which doubles the table while it is trained.
- ``s`` begins at -15, as theirs on MovieLens (-150 on others), but moves ten times as far in a step
  as other parameters: a training here takes thousands of steps, where theirs take many more. Like
  all kernels it pays ``--l2``, which pulls it up to 0, and so thresholds to a half.
- The authors stop when few enough are left. Here training is over when it is over anywhere, and of
  what is left the numbers of the largest absolute value are kept, as many as the budget pays for;
  it may be fewer. Numbers of values that training never read count as zeros.
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

_BEGIN, _FASTER = -15.0, 10.0


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
    """The largest of what thresholds left, as many as the budget pays for.

    Raises:
      InputError: they left nothing.
    """
    relaxed, fields = task.relaxed(), task.fields
    thresholds = (_FASTER * relaxed.layer["tenth"])[fields.field_of_row]
    left = np.abs(np.asarray(soft_threshold(jnp.asarray(relaxed.rows), jnp.asarray(thresholds))))
    left[task.reads == 0] = 0.0
    kept = left > 0
    if not kept.any():
        raise InputError(
            "the thresholds of --method=pep left no number of the table; a smaller --l2 pulls them "
            "up less"
        )
    if kept.sum() > task.limit:
        kept = keep_best(left.reshape(-1), task.limit).reshape(left.shape)
    return ElementTable(kept, fields.num_fields)


PEP = Rival(
    "pep",
    "embed",
    choose,
    kept=ElementTable,
    layer=lambda latent_dim: SoftThreshold(),
    takes_several=False,
)
