"""Quality of click probabilities: exact AUC with ties, also by group, logloss, calibration.

The NumPy forms work in float64 on the scores of a whole split; ``auc_on_device`` and
``logloss_on_device`` give the same inside jit, for the search.
"""

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in order, ties half.

    Args:
      labels: 0/1 ``[N]``.
      scores: float ``[N]``; any increasing function of the probability will do.

    Raises:
      InputError: only one class is present, so that no pair exists, or a score is not a number.
    """
    labels = np.asarray(labels) != 0
    scores = np.asarray(scores)
    _check(labels, scores)
    below, not_above = _counts(scores[labels], scores[~labels])
    return float((below.sum() + not_above.sum()) / (2.0 * below.size * (labels.size - below.size)))


def grouped_auc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> float | None:
    """Mean of the groups' own AUCs, weighted by their rows: GAUC (Zhou et al., KDD 2018, 5.2).

    Where groups are users it tells how well rows are ranked for a user; the AUC of all rows also
    rewards telling users apart. Groups of one class, which have no AUC, are left out.

    Args:
      labels: 0/1 ``[N]``.
      scores: float ``[N]``; any increasing function of the probability will do.
      groups: int ``[N]``; rows of group 0 are in none.

    Returns:
      In [0, 1]; None where no group has both classes.

    Raises:
      InputError: a score is not a number.
    """
    labels, scores, groups = (np.asarray(array) for array in (labels, scores, groups))
    if np.isnan(scores).any():
        raise InputError(f"AUC is undefined: {int(np.isnan(scores).sum())} scores are NaN")
    grouped = groups != 0
    labels, scores, groups = labels[grouped] != 0, scores[grouped], groups[grouped]
    order = np.lexsort((scores, groups))
    labels, scores, groups = labels[order], scores[order], groups[order]
    rows = len(labels)
    if not rows:
        return None
    new_group = np.concatenate([[True], groups[1:] != groups[:-1]])
    new_score = new_group | np.concatenate([[True], scores[1:] != scores[:-1]])
    group, tie = np.cumsum(new_group) - 1, np.cumsum(new_score) - 1
    starts, ties = np.flatnonzero(new_group), np.flatnonzero(new_score)
    # The mean rank of equal scores, from 1 within the group.
    sizes = np.diff(np.append(ties, rows))
    ranks = (ties + (sizes + 1) / 2)[tie] - starts[group]
    positives = np.bincount(group, labels)
    totals = np.diff(np.append(starts, rows))
    negatives = totals - positives
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return None
    above = np.bincount(group, ranks * labels) - positives * (positives + 1) / 2
    aucs = above[both] / (positives * negatives)[both]
    return float(np.average(aucs, weights=totals[both]))


def auc_influence(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How far each row moves the AUC from its mean; independent rows' squares sum to its variance.

    The components of DeLong, DeLong & Clarke-Pearson (Biometrics 1988): of a row, the share of the
    other class that it is in order with, less the AUC, over the rows of its own class. Differences
    of two models' influences on the same rows are those of the difference of their AUCs.

    Args:
      labels: 0/1 ``[N]``.
      scores: float ``[N]``.

    Returns:
      float64 ``[N]``; 0 for the only row of a class, of whose variance nothing is known.

    Raises:
      InputError: as :func:`auc`.
    """
    labels = np.asarray(labels) != 0
    scores = np.asarray(scores)
    _check(labels, scores)
    influence = np.empty(labels.size)
    for own, sign in ((labels, 1.0), (~labels, -1.0)):
        others = labels.size - int(own.sum())
        below, not_above = _counts(sign * scores[own], sign * scores[~own])
        placements = (below + not_above) / (2.0 * others)
        rows = placements.size
        # Not over the rows alone: a mean that is estimated takes one of them.
        influence[own] = (placements - placements.mean()) / np.sqrt(rows * max(rows - 1, 1))
    return influence


def _check(labels: np.ndarray, scores: np.ndarray) -> None:
    """That there are pairs of numbers to put in order; ``labels`` are bool."""
    positives = int(labels.sum())
    negatives = labels.size - positives
    if positives == 0 or negatives == 0:
        raise InputError(
            f"AUC is undefined: all {labels.size} labels are {int(positives > 0)}; "
            "both classes are needed"
        )
    if np.isnan(scores).any():
        raise InputError(f"AUC is undefined: {int(np.isnan(scores).sum())} scores are NaN")


def _counts(scores: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the others, how many are below each score, and how many not above it."""
    others = np.sort(others)
    return np.searchsorted(others, scores, "left"), np.searchsorted(others, scores, "right")


def auc_on_device(positives: jax.Array, negatives: jax.Array) -> jax.Array:
    """:func:`auc` under jit and vmap, of the scores of each class; equal to it within 1e-6.

    Only the negatives are sorted, as integers in the order of the floats, which is several times
    as fast as sorting floats with their labels. Every count is exact; only their mean is rounded.

    Args:
      positives: float32 ``[P]``, scores of the rows of label 1, in any order.
      negatives: float32 ``[Q]``, scores of the rows of label 0.

    Returns:
      float32 scalar; NaN when a class is absent or a score is NaN.
    """
    ordered = jnp.sort(_sortable(negatives))
    sought = _sortable(positives)
    below = jnp.searchsorted(ordered, sought, side="left")
    not_above = jnp.searchsorted(ordered, sought, side="right")
    area = _mean((below + not_above).astype(jnp.float32)) / (2.0 * negatives.size)
    is_number = ~(jnp.isnan(positives).any() | jnp.isnan(negatives).any())
    return jnp.where(is_number, area, jnp.nan)


def _sortable(scores: jax.Array) -> jax.Array:
    """uint32 in the order of the float32 scores, with one zero."""
    # Not by adding 0.0, which XLA takes for no change.
    one_zero = jnp.where(scores == 0, 0.0, scores)
    bits = jax.lax.bitcast_convert_type(one_zero, jnp.uint32)
    sign = jnp.uint32(1 << 31)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _mean(values: jax.Array) -> jax.Array:
    """Mean of float32 ``[N]``, summed as a tree so that rounding does not grow with ``N``."""
    total = values
    while total.size > 1:
        total = jnp.pad(total, (0, -total.size % 32)).reshape(-1, 32).sum(axis=1)
    return total.sum() / values.size


def logloss_on_device(positives: jax.Array, negatives: jax.Array) -> jax.Array:
    """:func:`logloss` under jit and vmap, of the logits of each class.

    Args:
      positives: float32 ``[P]``, logits of the rows of label 1.
      negatives: float32 ``[Q]``, logits of the rows of label 0.

    Returns:
      float32 scalar, in nats.
    """
    return _mean(jax.nn.softplus(jnp.concatenate([-positives, negatives])))


def logloss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean binary cross-entropy of logits, in nats.

    Args:
      labels: 0/1 ``[N]``, at least one row.
      logits: float ``[N]``.
    """
    logits = np.asarray(logits, np.float64)
    return float(np.mean(np.logaddexp(0.0, logits) - np.asarray(labels, np.float64) * logits))


def logloss_influence(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """How far each row moves the logloss from its mean, as :func:`auc_influence` does the AUC.

    Args:
      labels: 0/1 ``[N]``, at least one row.
      logits: float ``[N]``.

    Returns:
      float64 ``[N]``.
    """
    logits = np.asarray(logits, np.float64)
    losses = np.logaddexp(0.0, logits) - np.asarray(labels, np.float64) * logits
    return np.asarray((losses - losses.mean()) / np.sqrt(losses.size * max(losses.size - 1, 1)))


def calibration(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean predicted probability over the observed click rate: 1 is calibrated.

    Args:
      labels: 0/1 ``[N]`` with at least one click.
      logits: float ``[N]``.
    """
    probabilities = 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))
    return float(probabilities.mean() / np.asarray(labels, np.float64).mean())
