"""Simple rules for the fields' dimensions, scaled to a budget: what a search has to beat.

=================  ============================================================================
``uniform``        The same dimension for every field.
``log_v``          In proportion to ``log(1 + rows)``: large fields get more.
``inverse_log_v``  In proportion to ``1 / log(1 + rows)``: large fields get less.
``corner``         Every column for the smallest fields, in turn, as long as the budget lasts; one
                   for the others.
=================  ============================================================================

None is safe on every data set, which is why a search starts from all of them.
"""

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.search.budget import check_limit, padded, table_parameters

DIMENSION_RULES = ("uniform", "log_v", "inverse_log_v", "corner")


def rule_dims(
    rule: str, rows: np.ndarray, max_dim: int, limit: int | None, multiple: int = 1
) -> np.ndarray:
    """The largest dimensions of a rule's shape that fit a budget.

    A shape ``s`` gives the dimensions ``round(c * s_f)``, at least 1 and at most ``D``, with the
    largest factor ``c`` that fits.

    Args:
      rule: one of ``DIMENSION_RULES``.
      rows: int ``[F]``, rows kept.
      max_dim: ``D``.
      limit: parameters; None gives every field all ``D``.
      multiple: dimensions are paid for as multiples of it.

    Returns:
      int32 ``[F]``.

    Raises:
      InputError: no such rule, no column to give, or a limit below the smallest table.
    """
    if rule not in DIMENSION_RULES:
        raise InputError(f"a rule is one of {', '.join(DIMENSION_RULES)}, not {rule!r}")
    if max_dim < 1:
        raise InputError(f"a rule gives each field a dimension from 1, and max_dim={max_dim}")
    if limit is None:
        return np.full(len(rows), max_dim, np.int32)
    if rule != "corner":
        return dims_in_proportion(_shape(rule, rows), rows, max_dim, limit, multiple)
    place = np.argsort(np.argsort(rows, kind="stable"))
    factor = place[:, None] * max_dim + np.arange(2, max_dim + 1)
    return _raised(factor, rows, limit, multiple)


def dims_in_proportion(
    shape: np.ndarray, rows: np.ndarray, max_dim: int, limit: int, multiple: int = 1
) -> np.ndarray:
    """The dimensions ``round(c * s_f)`` in 1..``D`` with the largest factor ``c`` that fits.

    Args:
      shape: float ``[F]``, ``s``, each above 0.
      rows: int ``[F]``, rows kept.
      max_dim: ``D``.
      limit: parameters.
      multiple: dimensions are paid for as multiples of it.

    Returns:
      int32 ``[F]``.

    Raises:
      InputError: the limit is below the smallest table.
    """
    raised_to = np.arange(2, max_dim + 1)
    return _raised((raised_to - 0.5) / shape[:, None], rows, limit, multiple)


def _raised(factor: np.ndarray, rows: np.ndarray, limit: int, multiple: int) -> np.ndarray:
    """Dimensions int32 ``[F]`` of the largest factor that fits.

    ``factor`` float ``[F, D - 1]`` is where each field is raised to the dimensions 2 to ``D``;
    equal ones are reached together.
    """
    check_limit(rows, limit, multiple)
    num_fields, max_dim = len(rows), factor.shape[1] + 1
    cost = np.asarray(rows, np.int64)[:, None] * np.diff(
        padded(np.arange(1, max_dim + 1), multiple)
    )
    order = np.argsort(factor, axis=None, kind="stable")
    in_order = factor.ravel()[order]
    least = int(table_parameters(rows, np.ones(num_fields, np.int64), multiple))
    total = least + np.cumsum(cost.ravel()[order])
    # The first factor at which the table is too large, and with it all that is reached there.
    too_large = np.flatnonzero(total > limit)
    reached = factor < in_order[too_large[0]] if len(too_large) else np.ones_like(factor, bool)
    return (1 + reached.sum(axis=1)).astype(np.int32)


def _shape(rule: str, rows: np.ndarray) -> np.ndarray:
    size = np.log1p(np.maximum(np.asarray(rows, np.float64), 1.0))
    if rule == "uniform":
        return np.ones(len(rows))
    if rule == "log_v":
        return size
    return 1.0 / size  # inverse_log_v
