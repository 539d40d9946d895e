"""``autodim``: a few candidate dimensions for each field, weighed against each other in training.

AutoDim (Zhao et al., "AutoDim: Field-aware Embedding Dimension Search in Recommender Systems", WWW
2021, section 2). Candidate ``n`` reads the first ``d_n`` columns of a row (their weight sharing)
and brings them to ``D`` by a matrix that all fields share; that is normalised over the batch,
without factor and summand, and goes through tanh. A field reads the candidates weighed by

    p_n = exp((log a_n + g_n) / tau) / sum_m exp((log a_m + g_m) / tau)

with ``a`` the softmax of what is learned, ``g`` Gumbel noise and ``tau = max(.01, 1 - .00005 t)``
in step ``t``. What has the largest ``a`` is kept. Candidates are a sixteenth, a quarter, a half,
three quarters and all of the columns, as theirs are (2, 8, 16, 24, 32).

Departures: ``a`` is trained in the same steps, on the same rows and at the same rate as all else,
where the paper takes turns with steps on validation rows. The paper has no budget: here a field
pays a price for each number, the smallest at which the table fits, and takes the candidate of the
largest ``log a`` minus what it pays; what is left raises fields to likelier candidates, the most
likelihood for each number first. No bias follows the matrix, as the normalisation would take it
out. What is read is times one learned factor, which begins at .1: products of fields (FM) of
normalised numbers are so large that a supernet of DeepFM hardly learned without it. ``a`` pays
``--l2`` as kernels do.
Retrained fields have no matrix: as with OptEmbed's dimensions the backbone reads the ``d`` columns
themselves. Devices share the draws of the first, which are not those that one alone would have.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import BudgetError
from optembed_jax.exchange.batch_axis import BatchAxis, mean_of
from optembed_jax.fields import Fields
from optembed_jax.models.layers import xavier_uniform
from optembed_jax.models.whole_batch import EPSILON, MOMENTUM
from optembed_jax.rivals.rival import Rival, Task, all_rows
from optembed_jax.search.budget import table_parameters
from optembed_jax.serving.kept_table import RowsAndDims

_SHARES = (1 / 16, 1 / 4, 1 / 2, 3 / 4, 1)
_COOLING, _COLDEST = 0.00005, 0.01
_FACTOR = 0.1
"""That what is read begins with."""


def candidates_of(latent_dim: int) -> tuple[int, ...]:
    """The candidate dimensions, in order."""
    return tuple(sorted({max(1, round(share * latent_dim)) for share in _SHARES}))


class Mixture(nn.Module):
    """What fields read of all candidates.

    Attributes:
      candidates: dimensions, in order; the last is all columns.
      batch_axis: that the batch is split over, or None.
    """

    candidates: tuple[int, ...]
    batch_axis: BatchAxis | None = None

    @nn.compact
    def __call__(
        self, embedded: jax.Array, *, train: bool, weights: jax.Array | None = None
    ) -> jax.Array:
        """``[B, F, D]`` to ``[B, F, D]``."""
        _, fields, width = embedded.shape
        alpha = self.param("alpha", nn.initializers.zeros, (fields, len(self.candidates)))
        taken = self.variable("batch_stats", "steps", lambda: jnp.zeros((), jnp.float32))
        log_share = jax.nn.log_softmax(alpha)
        if train and self.has_rng("dropout"):
            noise = jax.random.gumbel(self.make_rng("dropout"), alpha.shape)
            if self.batch_axis is not None:  # One draw for the whole batch.
                noise = jax.lax.all_gather(noise, self.batch_axis.name)[0]
            heat = jnp.maximum(_COLDEST, 1 - _COOLING * taken.value)
            share = jax.nn.softmax((log_share + noise) / heat)
            taken.value = taken.value + 1
        else:
            share = jnp.exp(log_share)
        read = jnp.zeros_like(embedded)
        for number, dim in enumerate(self.candidates):
            kernel = self.param(f"candidate_{dim}", xavier_uniform, (dim, width))
            whole = self._normalised(f"of_{dim}", embedded[..., :dim] @ kernel, train, weights)
            read = read + share[:, number, None] * jnp.tanh(whole)
        return read * self.param("factor", nn.initializers.constant(_FACTOR), ())

    def _normalised(
        self, name: str, values: jax.Array, train: bool, weights: jax.Array | None
    ) -> jax.Array:
        """Each number by its mean and variance over the batch, or by the running ones."""
        shape = values.shape[1:]
        mean = self.variable("batch_stats", f"{name}_mean", jnp.zeros, shape)
        var = self.variable("batch_stats", f"{name}_var", jnp.ones, shape)
        middle, spread = mean.value, var.value
        if train:
            middle = mean_of(values, weights, self.batch_axis)
            square = mean_of(jax.lax.square(values), weights, self.batch_axis)
            spread = jnp.maximum(0.0, square - jax.lax.square(middle))
            mean.value = MOMENTUM * mean.value + (1 - MOMENTUM) * middle
            var.value = MOMENTUM * var.value + (1 - MOMENTUM) * spread
        return (values - middle) * jax.lax.rsqrt(spread + EPSILON)


def choose(task: Task) -> RowsAndDims:
    """The candidate of the largest weight of each field, at the price of the budget."""
    alpha = np.asarray(task.relaxed().layer["alpha"], np.float64)
    log_share = alpha - np.log(np.exp(alpha).sum(axis=1, keepdims=True))
    rows = np.array(task.fields.sizes)
    return all_rows(
        task, dims_at_price(log_share, candidates_of(task.latent_dim), rows, task.limit)
    )


def dims_at_price(
    log_share: np.ndarray, candidates: Sequence[int], rows: np.ndarray, limit: int
) -> np.ndarray:
    """The likeliest candidates that fit.

    Args:
      log_share: float64 ``[F, n]``, what is known of each candidate.
      candidates: their dimensions, ``n``, in order.
      rows: int ``[F]``, of each field.
      limit: parameters.

    Returns:
      int32 ``[F]``.

    Raises:
      BudgetError: the smallest candidates are more than the limit.
    """
    dims = np.array(candidates)
    cost = rows[:, None].astype(np.int64) * dims
    least = int(table_parameters(rows, np.full(len(rows), dims[0])))
    if least > limit:
        raise BudgetError(
            f"a budget of {limit:,} parameters is below the smallest table of candidate dimensions "
            f"{', '.join(map(str, candidates))}, {least:,} parameters; raise it"
        )
    first, second = np.triu_indices(len(dims), 1)
    prices = (log_share[:, second] - log_share[:, first]) / (cost[:, second] - cost[:, first])
    every = np.arange(len(rows))
    chosen = np.zeros(len(rows), np.int64)
    for price in np.unique(np.append(prices[prices > 0], 0.0)):
        # The first of equals: at its own price a field takes the smaller candidate.
        worth = log_share - price * cost
        best = np.argmax(worth >= worth.max(axis=1, keepdims=True) - 1e-12, axis=1)
        if cost[every, best].sum() <= limit:
            chosen = best
            break
    while True:
        gain = log_share - log_share[every, chosen][:, None]
        more = cost - cost[every, chosen][:, None]
        left = limit - cost[every, chosen].sum()
        may = (gain > 0) & (more > 0) & (more <= left)
        if not may.any():
            return dims[chosen].astype(np.int32)
        field, number = np.unravel_index(
            np.argmax(np.where(may, gain / np.maximum(more, 1), -np.inf)), may.shape
        )
        chosen[field] = number


def layer(latent_dim: int) -> Mixture:
    """What is trained between table and backbone."""
    return Mixture(candidates_of(latent_dim))


def least(fields: Fields, latent_dim: int) -> int:
    """Numbers of the smallest table: the first candidate of every field."""
    return fields.num_features * candidates_of(latent_dim)[0]


AUTO_DIM = Rival("autodim", "embed", choose, layer=layer, least=least)
