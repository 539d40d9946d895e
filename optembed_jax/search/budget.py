"""Table budgets: what dimensions cost over the rows that are kept, and how to make the most of one.

The cost of a table is ``sum_f rows_f * d_f`` parameters, where ``rows_f`` are the rows that field
``f`` keeps (one more where its pruned ids read a vector). Some hardware stores dimensions as
multiples of 8: with ``multiple=8`` a dimension of 3 is paid for as 8.
"""

import jax
import numpy as np

from optembed_jax.errors import BudgetError
from optembed_jax.search.host_random import generator

BYTES_PER_PARAMETER = 4
"""Of float32."""

_HALVINGS = 50
"""Of the interval of prices: to the precision of a float64."""


def padded(dims: np.ndarray, multiple: int = 1) -> np.ndarray:
    """Dimensions (or rows) as they are paid for: rounded up to a multiple; int64, as they came."""
    return -(-np.asarray(dims, np.int64) // multiple) * multiple


def table_parameters(rows: np.ndarray, dims: np.ndarray, multiple: int = 1) -> np.ndarray:
    """Parameters of tables.

    Args:
      rows: int ``[..., F]``, rows kept.
      dims: int ``[..., F]``, columns of those rows.
      multiple: dimensions are rounded up to a multiple of it.

    Returns:
      int64 ``[...]``.
    """
    return (np.asarray(rows, np.int64) * padded(dims, multiple)).sum(axis=-1)


def check_limit(rows: np.ndarray, limit: int, multiple: int = 1) -> None:
    """Refuse a limit below the smallest table, in which each field has one dimension.

    Args:
      rows: int ``[F]``, rows kept.
      limit: parameters.
      multiple: dimensions are rounded up to a multiple of it.

    Raises:
      BudgetError: it is below; the message says how much is needed.
    """
    least = int(table_parameters(rows, np.ones(len(rows), np.int64), multiple))
    if limit < least:
        counted = "" if multiple == 1 else f", counted as {multiple},"
        raise BudgetError(
            f"a budget of {limit:,} parameters ({BYTES_PER_PARAMETER * limit:,} bytes) is below "
            f"the smallest table: its {int(np.sum(rows)):,} rows with one dimension each{counted} "
            f"are {least:,} parameters ({BYTES_PER_PARAMETER * least:,} bytes); raise the budget, "
            "or keep fewer rows"
        )


def repair(
    key: jax.Array, dims: np.ndarray, rows: np.ndarray, limit: int | np.ndarray, multiple: int = 1
) -> np.ndarray:
    """Lower the dimensions of candidates until they fit, one step of one field at a time.

    The field is drawn with a chance in proportion to the parameters that it could still give up,
    so that what is over the limit is saved where it is spent. What fits is left as it is, and
    nothing is ever raised: filling up what remains traps an evolution at tight limits.

    Args:
      key: PRNG key.
      dims: int32 ``[C, F]``, each at least 1.
      rows: int ``[C, F]``, rows kept; every smallest table must fit.
      limit: parameters, of all or int ``[C]``.
      multiple: dimensions are rounded up to a multiple of it; they are lowered to multiples.

    Returns:
      int32 ``[C, F]``, none over the limit.
    """
    rng = generator(key)
    dims, rows = np.array(dims, np.int32), np.asarray(rows, np.int64)
    limits = np.broadcast_to(np.asarray(limit), len(dims))
    over = np.flatnonzero(table_parameters(rows, dims, multiple) > limits)
    while len(over):
        could_give = rows[over] * (padded(dims[over], multiple) - multiple)
        reach = np.cumsum(could_give, axis=1)
        drawn = rng.random(len(over)) * reach[:, -1]
        field = (reach <= drawn[:, None]).sum(axis=1)
        dims[over, field] = padded(dims[over, field], multiple) - multiple
        over = over[table_parameters(rows[over], dims[over], multiple) > limits[over]]
    return dims


def best_dims(
    worth: np.ndarray, rows: np.ndarray, limit: int | None, multiple: int = 1
) -> np.ndarray:
    """Dimensions that are worth most together, where each field's count by themselves.

    A knapsack, by Lagrangian relaxation (Everett, 1963): with a price on parameters every field
    decides for itself, and the lowest price is sought at which all keep to the limit. No other
    choice of the same cost or less is worth more. What it leaves of the limit, less than the next
    step of the fields that would take one at this price, is not spent.

    Args:
      worth: float64 ``[F, D]``, of each dimension of each field.
      rows: int ``[F]``, rows kept; the smallest table must fit.
      limit: parameters; None does not bound them.
      multiple: dimensions are rounded up to a multiple of it.

    Returns:
      int32 ``[F]``.
    """
    rows, fields = np.asarray(rows, np.int64), np.arange(len(rows))
    costs = rows[:, None] * padded(np.arange(1, worth.shape[1] + 1), multiple)

    def at(price: float) -> np.ndarray:
        return (worth - price * costs).argmax(axis=1)

    def fits(choice: np.ndarray) -> bool:
        return limit is None or int(costs[fields, choice].sum()) <= limit

    found = at(0.0)
    if fits(found):
        return (found + 1).astype(np.int32)
    # At the upper price a step of the fewest rows costs more than anything is worth.
    low, high = 0.0, 2 * np.ptp(worth, axis=1).max() / (multiple * rows[rows > 0].min())
    found = at(high)
    for _ in range(_HALVINGS):
        price = (low + high) / 2
        choice = at(price)
        if fits(choice):
            found, high = choice, price
        else:
            low = price
    return (found + 1).astype(np.int32)
