"""The bias of the output: where training begins, and what it leaves undone.

**Before**, a model should predict the click rate for every row.

Where one row in a thousand is clicked, a network that starts at .5 spends its first epochs on
learning one number, with all its weights. And what a perceptron with random weights adds to the
logit varies by about 1 between rows, as much as good features do: to unlearn that takes clicks,
which are rare. So the bias starts at the log-odds of the click rate, and the weights of the last
layer at a hundredth of their random values, from where the first steps move those that help. Not at
zero: no gradient would reach the table in the first step, and rows that pay the group lasso for
what they are worth to the loss would lose all they have.

**After**, its mean prediction over the training rows should be their click rate: where the training
loss is least, its derivative by the bias, the difference of the two, is zero. But steps of one size
do not end there: they leave the mean a tenth off, now above and now below, and the rarer clicks
are, the more. A shift of the bias makes up for it, and changes the order of no two rows.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import InputError

_FIRST_KERNEL = 0.01
"""Of the random values of the last layer, what it starts with: logits vary by about as much."""


def log_odds(rate: float) -> float:
    """The logit of a click rate.

    Raises:
      InputError: all rows are of one class, or this is no rate.
    """
    if not 0 < rate < 1:
        raise InputError(f"the click rate must be between 0 and 1, both excluded, not {rate}")
    return math.log(rate) - math.log1p(-rate)


def predicting(network: Mapping[str, Any], click_rate: float) -> dict[str, Any]:
    """A backbone's parameters with an output that starts at the click rate.

    Every backbone ends in a ``logit`` layer but for FM, which has a ``bias`` alone. What the linear
    term and the FM interaction add comes from the table: zero, and small.

    Args:
      network: fresh parameters of a backbone.
      click_rate: of the training split, in (0, 1).

    Raises:
      InputError: as :func:`log_odds`.
    """
    layer = _output(network)
    start = {"bias": jnp.full_like(layer["bias"], log_odds(click_rate))}
    if "kernel" in layer:
        start["kernel"] = _FIRST_KERNEL * layer["kernel"]
    return _with_output(network, start)


def shifted(network: Mapping[str, Any], shift: float) -> dict[str, Any]:
    """A backbone's parameters with ``shift`` added to every logit."""
    return _with_output(network, {"bias": _output(network)["bias"] + jnp.float32(shift)})


def shift_to_rate(
    logits: np.ndarray, click_rate: float, weights: np.ndarray | None = None
) -> float:
    """What to add to logits so that their mean probability is the click rate.

    Args:
      logits: float ``[N]``, finite, at least one.
      click_rate: in (0, 1).
      weights: of the mean, float ``[N]``, above 0; None weighs all alike.

    Raises:
      InputError: as :func:`log_odds`.
    """
    # Here, since it takes a third of a second, which commands that train nothing need not wait.
    from scipy.optimize import brentq
    from scipy.special import expit

    logits, wanted = np.asarray(logits, np.float64), log_odds(click_rate)
    # The mean lies between the least and the greatest probability.
    low, high = wanted - logits.max(), wanted - logits.min()
    if low == high:
        return float(low)

    def gap(shift: float) -> float:
        return float(np.average(expit(logits + shift), weights=weights) - click_rate)

    return float(brentq(gap, low, high))


def of_all_rows(network: Mapping[str, Any], negative_rate: float) -> dict[str, Any]:
    """A backbone's parameters that predict the rows from which those without a click were sampled.

    Where a share ``r`` of them was kept, odds are ``1 / r`` times too high: so ``log r`` is added
    to every logit (He et al., ADKDD 2014, section 6.3; King and Zeng, Political Analysis 2001).

    Args:
      network: trained on the rows that were kept.
      negative_rate: ``r``, in (0, 1].

    Raises:
      InputError: it is not within (0, 1].
    """
    if not 0 < negative_rate <= 1:
        raise InputError(f"negative_rate must be in (0, 1], not {negative_rate}")
    return shifted(network, math.log(negative_rate))


def _output(network: Mapping[str, Any]) -> Mapping[str, Any]:
    layer: Mapping[str, Any] = network["logit"]["Dense_0"] if "logit" in network else network
    return layer


def _with_output(network: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    if "logit" not in network:
        return {**network, **values}
    return {**network, "logit": {"Dense_0": {**network["logit"]["Dense_0"], **values}}}
