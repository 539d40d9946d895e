"""The shapes of a model's parameters, for tests that draw their numbers themselves."""

import jax

from optembed_jax.models.params import init_params


def shapes_of_params(config, fields):
    """What ``init_params`` gives, as shapes: drawing it would compile dozens of small programs."""
    return jax.eval_shape(lambda: init_params(jax.random.key(0), config, fields))
