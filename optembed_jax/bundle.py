"""The bundle, where people who serve import it from; it is made in ``serving.bundle``."""

from optembed_jax.serving.bundle import Bundle

__all__ = ["Bundle"]
