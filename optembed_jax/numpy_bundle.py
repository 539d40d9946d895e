"""The bundle without JAX, where people who serve import it from; see ``serving.numpy_bundle``."""

from optembed_jax.serving.numpy_bundle import NumpyBundle

__all__ = ["NumpyBundle"]
