"""Quality of click probabilities: exact AUC with ties, also by group, logloss, calibration.

The NumPy forms work in float64 on the scores of a whole split; ``auc_on_device`` and
``logloss_on_device`` give the same inside jit, for the search. With weights, a row of weight 2
counts as the row given twice; without them all rows count the same.
"""

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in order, ties half.

    Args:
      labels: 0/1 ``[N]``.
      scores: float ``[N]``; any increasing function of the probability will do.
      weights: float ``[N]``, above 0; a pair counts as much as the product of its two.

    Raises:
      InputError: only one class is present, so that no pair exists, or a score is not a number.
    """
    labels = np.asarray(labels) != 0
    scores = np.asarray(scores)
    _check(labels, scores)
    if weights is None:
        below, not_above = _counts(scores[labels], scores[~labels])
        pairs = 2.0 * below.size * (labels.size - below.size)
        return float((below.sum() + not_above.sum()) / pairs)
    own, others = (np.asarray(weights, np.float64)[of] for of in (labels, ~labels))
    below, not_above = _counts(scores[labels], scores[~labels], others)
    return float(own @ (below + not_above) / (2.0 * own.sum() * others.sum()))


def grouped_auc(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> float | None:
    """Mean of the groups' own AUCs, weighted by their rows: GAUC (Zhou et al., KDD 2018, 5.2).

    Where groups are users it tells how well rows are ranked for a user; the AUC of all rows also
    rewards telling users apart. Groups of one class, which have no AUC, are left out.

    Args:
      labels: 0/1 ``[N]``.
      scores: float ``[N]``; any increasing function of the probability will do.
      groups: int ``[N]``; rows of group 0 are in none.
      weights: float ``[N]``, above 0; a group counts as much as its rows weigh.

    Returns:
      In [0, 1]; None where no group has both classes.

    Raises:
      InputError: a score is not a number.
    """
    labels, scores, groups = (np.asarray(array) for array in (labels, scores, groups))
    if np.isnan(scores).any():
        raise InputError(f"AUC is undefined: {int(np.isnan(scores).sum())} scores are NaN")
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    grouped = groups != 0
    labels, scores, groups = labels[grouped] != 0, scores[grouped], groups[grouped]
    order = np.lexsort((scores, groups))
    labels, scores, groups = labels[order], scores[order], groups[order]
    weights = weights[grouped][order]
    rows = len(labels)
    if not rows:
        return None
    new_group = np.concatenate([[True], groups[1:] != groups[:-1]])
    new_score = new_group | np.concatenate([[True], scores[1:] != scores[:-1]])
    group, tie = np.cumsum(new_group) - 1, np.cumsum(new_score) - 1
    of_positives, of_negatives = weights * labels, weights * ~labels
    positives, negatives = np.bincount(group, of_positives), np.bincount(group, of_negatives)
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return None
    # What the negatives of the group weigh that are below a score, and those of equal score.
    tied = np.bincount(tie, of_negatives)
    below = (np.cumsum(tied) - tied)[tie]
    below -= (np.cumsum(negatives) - negatives)[group]
    above = np.bincount(group, of_positives * (below + tied[tie] / 2))
    aucs = above[both] / (positives * negatives)[both]
    return float(np.average(aucs, weights=(positives + negatives)[both]))


def auc_influence(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """How far each row moves the AUC from its mean; independent rows' squares sum to its variance.

    The components of DeLong, DeLong & Clarke-Pearson (Biometrics 1988): of a row, the share of the
    other class that it is in order with, less the AUC, over the rows of its own class. Differences
    of two models' influences on the same rows are those of the difference of their AUCs.

    Args:
      labels: 0/1 ``[N]``.
      scores: float ``[N]``.
      weights: float ``[N]``, above 0. A row is one draw, whatever it weighs.

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
        if weights is None:
            others: float = labels.size - int(own.sum())
            below, not_above = _counts(sign * scores[own], sign * scores[~own])
        else:
            of_others = np.asarray(weights, np.float64)[~own]
            others = of_others.sum()
            below, not_above = _counts(sign * scores[own], sign * scores[~own], of_others)
        placements = (below + not_above) / (2.0 * others)
        influence[own] = _influence_on_mean(placements, None if weights is None else weights[own])
    return influence


def _influence_on_mean(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """How far each value moves the mean of all, float64 ``[N]``."""
    rows = values.size
    # Not over the rows alone: a mean that is estimated takes one of them.
    if weights is None:
        return np.asarray((values - values.mean()) / np.sqrt(rows * max(rows - 1, 1)))
    share = np.asarray(weights, np.float64) / np.sum(weights, dtype=np.float64)
    effective = float(1.0 / np.square(share).sum())  # So many rows of equal weight say as much.
    taken = np.sqrt(effective / max(effective - 1, 1))
    return np.asarray(share * (values - share @ values) * taken)


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


def _counts(
    scores: np.ndarray, others: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Of the others, how many are below each score, and how many not above it; or their weight."""
    if weights is None:
        others = np.sort(others)
        return np.searchsorted(others, scores, "left"), np.searchsorted(others, scores, "right")
    order = np.argsort(others)
    others = others[order]
    until = np.concatenate([[0.0], np.cumsum(weights[order])])
    below, not_above = (np.searchsorted(others, scores, side) for side in ("left", "right"))
    return until[below], until[not_above]


def auc_on_device(
    positives: jax.Array,
    negatives: jax.Array,
    weights: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """:func:`auc` under jit and vmap, of the scores of each class; equal to it within 1e-6.

    Only the negatives are sorted, as integers in the order of the floats, which is several times
    as fast as sorting floats with their labels. Without weights every count is exact; only their
    mean is rounded.

    Args:
      positives: float32 ``[P]``, scores of the rows of label 1, in any order.
      negatives: float32 ``[Q]``, scores of the rows of label 0.
      weights: of both, float32 ``[P]`` and ``[Q]``.

    Returns:
      float32 scalar; NaN when a class is absent or a score is NaN.
    """
    sought, ordered = _sortable(positives), _sortable(negatives)
    if weights is None:
        ordered, of_negatives = jnp.sort(ordered), None
    else:
        ordered, of_negatives = jax.lax.sort((ordered, weights[1]), num_keys=1)
    below = jnp.searchsorted(ordered, sought, side="left")
    not_above = jnp.searchsorted(ordered, sought, side="right")
    if weights is None or of_negatives is None:
        area = _mean((below + not_above).astype(jnp.float32)) / (2.0 * negatives.size)
    else:
        # Shares of the whole, so that what is summed up stays below one.
        share = of_negatives / _sum(of_negatives)
        until = jnp.concatenate([jnp.zeros((1,), jnp.float32), jnp.cumsum(share)])
        placements = 0.5 * (until[below] + until[not_above])
        area = _mean(placements, weights[0])
    is_number = ~(jnp.isnan(positives).any() | jnp.isnan(negatives).any())
    return jnp.where(is_number, area, jnp.nan)


def _sortable(scores: jax.Array) -> jax.Array:
    """uint32 in the order of the float32 scores, with one zero."""
    # Not by adding 0.0, which XLA takes for no change.
    one_zero = jnp.where(scores == 0, 0.0, scores)
    bits = jax.lax.bitcast_convert_type(one_zero, jnp.uint32)
    sign = jnp.uint32(1 << 31)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _mean(values: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Mean of float32 ``[N]``."""
    if weights is None:
        return _sum(values) / values.size
    return _sum(values * weights) / _sum(weights)


def _sum(values: jax.Array) -> jax.Array:
    """Sum of float32 ``[N]``, as a tree so that rounding does not grow with ``N``."""
    while values.size > 1:
        values = jnp.pad(values, (0, -values.size % 32)).reshape(-1, 32).sum(axis=1)
    return values.sum()


def logloss_on_device(
    positives: jax.Array,
    negatives: jax.Array,
    weights: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """:func:`logloss` under jit and vmap, of the logits of each class.

    Args:
      positives: float32 ``[P]``, logits of the rows of label 1.
      negatives: float32 ``[Q]``, logits of the rows of label 0.
      weights: of both, float32 ``[P]`` and ``[Q]``.

    Returns:
      float32 scalar, in nats.
    """
    losses = jax.nn.softplus(jnp.concatenate([-positives, negatives]))
    return _mean(losses, None if weights is None else jnp.concatenate(weights))


def logloss(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean binary cross-entropy of logits, in nats.

    Args:
      labels: 0/1 ``[N]``, at least one row.
      logits: float ``[N]``.
      weights: float ``[N]``, above 0.
    """
    losses = _losses(labels, logits)
    return float(np.mean(losses) if weights is None else _weighted_mean(losses, weights))


def logloss_influence(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """How far each row moves the logloss from its mean, as :func:`auc_influence` does the AUC.

    Args:
      labels: 0/1 ``[N]``, at least one row.
      logits: float ``[N]``.
      weights: float ``[N]``, above 0. A row is one draw, whatever it weighs.

    Returns:
      float64 ``[N]``.
    """
    return _influence_on_mean(_losses(labels, logits), weights)


def calibration(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean predicted probability over the observed click rate: 1 is calibrated.

    Args:
      labels: 0/1 ``[N]`` with at least one click.
      logits: float ``[N]``.
      weights: float ``[N]``, above 0.
    """
    probabilities = 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))
    labels = np.asarray(labels, np.float64)
    if weights is None:
        return float(probabilities.mean() / labels.mean())
    return _weighted_mean(probabilities, weights) / _weighted_mean(labels, weights)


def reliability(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None, bins: int = 10
) -> list[dict[str, float | int]]:
    """How often rows are clicked that a model gives like probabilities: a reliability diagram.

    Bins of equal numbers of rows, by predicted probability (Niculescu-Mizil and Caruana, ICML
    2005, have bins of equal width, of which most are empty where clicks are rare).

    Args:
      labels: 0/1 ``[N]``.
      logits: float ``[N]``.
      weights: float ``[N]``, above 0.
      bins: how many, at least 1; of fewer rows than that there are as many as rows.

    Returns:
      Of each bin, the lowest first: ``predicted`` and ``clicked``, the means of both, and ``rows``.
    """
    order = np.argsort(np.asarray(logits), kind="stable")
    probabilities = 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))
    counts = np.ones(len(order)) if weights is None else np.asarray(weights, np.float64)
    return [
        {
            "predicted": _weighted_mean(probabilities[own], counts[own]),
            "clicked": _weighted_mean(np.asarray(labels, np.float64)[own], counts[own]),
            "rows": len(own),
        }
        for own in np.array_split(order, max(1, min(bins, len(order))))
        if len(own)
    ]


def _losses(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    return np.asarray(np.logaddexp(0.0, logits) - np.asarray(labels, np.float64) * logits)


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(values, weights=np.asarray(weights, np.float64)))
