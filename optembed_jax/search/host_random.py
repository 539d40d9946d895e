"""Draws on the host from a JAX key, where compiling a program would cost more than the draw."""

import jax
import numpy as np


def generator(key: jax.Array) -> np.random.Generator:
    """A NumPy generator that is decided by a PRNG key alone; use a key for one generator only."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key), np.uint32).tolist())
