"""What a model predicts before it has learned anything: the click rate, for every row.

Where one row in a thousand is clicked, a network that starts at .5 spends its first epochs on
learning one number, with all its weights. And what a perceptron with random weights adds to the
logit varies by about 1 between rows, as much as good features do: to unlearn that takes clicks,
which are rare. So the bias starts at the log-odds of the click rate, and the weights of the last
layer at zero, from where the first steps move those that help. The layers below have their usual
random values, without which nothing would tell their units apart.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from optembed_jax.errors import InputError


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
    start = log_odds(click_rate)
    if "logit" not in network:
        return {**network, "bias": jnp.full_like(network["bias"], start)}
    layer = network["logit"]["Dense_0"]
    output = {
        "kernel": jnp.zeros_like(layer["kernel"]),
        "bias": jnp.full_like(layer["bias"], start),
    }
    return {**network, "logit": {"Dense_0": output}}
