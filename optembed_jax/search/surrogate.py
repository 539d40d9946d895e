"""What each column of each field is worth, as far as the candidates scored so far tell.

A Bayesian linear model of the fitness (Bishop, *Pattern Recognition and Machine Learning*, section
3.3): a sum over fields of piecewise linear functions of ``log2 d`` that bend at powers of 2, and
one term for each row mask where there are several. Noise and prior are set by maximising the
evidence. A draw from its posterior is one guess of what everything is worth, and to act by such
guesses is Thompson sampling (Thompson, 1933). The model only chooses what to score next: it never
declares a winner.
"""

import dataclasses

import jax
import numpy as np

from optembed_jax.search.host_random import generator
from optembed_jax.search.space import SearchSpace

_PRIOR_STRENGTHS = np.geomspace(1e-4, 1e2, 25)
"""Ratios of the noise's variance to the prior's, among which the evidence decides."""

_LEAST_VARIANCE = 1e-12
"""Of the noise, where all candidates are rated the same; the fitness is taken in its own spread."""


@dataclasses.dataclass(frozen=True, eq=False)
class Worth:
    """Guesses of what genes add to the fitness; only differences mean something.

    Attributes:
      of_dims: float64 ``[N, F, D]``, by each of ``N`` guesses, of each dimension of each field.
      of_masks: float64 ``[N, M]``, of each row mask.
    """

    of_dims: np.ndarray
    of_masks: np.ndarray

    def of(self, space: SearchSpace, candidates: np.ndarray) -> np.ndarray:
        """By each guess, float64 ``[N, C]``, of candidates int32 ``[C, G]``."""
        dims, fields = space.dims(candidates), np.arange(space.num_fields)
        by_field = self.of_dims[:, fields, dims - 1]
        return by_field.sum(axis=-1) + self.of_masks[:, space.mask(candidates)]


@dataclasses.dataclass(frozen=True, eq=False)
class Surrogate:
    """The posterior of the linear model's weights.

    Its covariance is the square of ``scale * (I - V diag(shrink) V')``: what was scored says
    something about the directions ``V`` and nothing about the rest.

    Attributes:
      space: of the candidates.
      mean: float64 ``[P]``: ``F * K`` of the fields, then those of the masks.
      directions: float64 ``[P, R]``, orthonormal columns.
      shrink: float64 ``[R]``, in 0..1.
      scale: of a weight that nothing is known of.
      level: the fitness that is expected where all inputs are zero.
      spread: the fitness's standard deviation, in which weights are given.
      unexplained: the share of the variance that is left when each candidate is predicted from all
        others; above 1 where that is worse than their mean.
    """

    space: SearchSpace
    mean: np.ndarray
    directions: np.ndarray
    shrink: np.ndarray
    scale: float
    level: float
    spread: float
    unexplained: float

    def expected(self, candidates: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` of candidates int32 ``[C, G]``."""
        return self.level + self.spread * (_inputs(self.space, candidates) @ self.mean)

    def draw(self, key: jax.Array, count: int) -> Worth:
        """``count`` independent guesses."""
        noise = generator(key).normal(size=(count, len(self.mean)))
        # The symmetric root: it does not depend on the signs of directions, or which of several
        # equivalent ones were found.
        known = (noise @ self.directions * self.shrink) @ self.directions.T
        weights = self.mean + self.scale * (noise - known)
        bends = _bends(np.arange(1, self.space.max_dim + 1), self.space.max_dim)
        split = self.space.num_fields * bends.shape[1]
        of_fields = weights[:, :split].reshape(count, self.space.num_fields, -1)
        of_masks = weights[:, split:] if len(self.space.rows) > 1 else np.zeros((count, 1))
        return Worth(of_fields @ bends.T, of_masks)


def fit_surrogate(space: SearchSpace, candidates: np.ndarray, fitness: np.ndarray) -> Surrogate:
    """The model of what was scored.

    Args:
      space: of the candidates.
      candidates: int32 ``[C, G]``, at least one.
      fitness: float64 ``[C]``, finite.
    """
    inputs = _inputs(space, candidates)
    center = inputs.mean(axis=0)
    inputs -= center
    target = fitness - fitness.mean()
    # Equal numbers need not equal their mean to the last bit.
    spread = max(float(target.std()), float(np.spacing(np.abs(fitness).max())))
    target /= spread
    values, directions = _directions(inputs)
    scores = inputs @ directions
    along = scores.T @ target

    def noise_of(strength: float) -> float:
        explained = np.square(along) @ (1 / (values + strength))
        return max((target @ target - explained) / len(target), _LEAST_VARIANCE)

    def log_evidence(strength: float) -> float:
        complexity = np.log1p(values / strength).sum()
        return float(-0.5 * (len(target) * np.log(noise_of(strength)) + complexity))

    strength = max(_PRIOR_STRENGTHS, key=log_evidence)
    precision = values + strength
    # Leaving a candidate out multiplies its residual by 1 / (1 - its leverage).
    leverage = np.square(scores) @ (1 / precision) + 1 / len(target)
    residual = (target - scores @ (along / precision)) / np.maximum(1 - leverage, 1e-9)
    mean = directions @ (along / precision)
    return Surrogate(
        space,
        mean=mean,
        directions=directions,
        shrink=1 - np.sqrt(strength / precision),
        scale=float(np.sqrt(noise_of(strength) / strength)),
        level=float(fitness.mean() - spread * (center @ mean)),
        spread=spread,
        unexplained=float(np.mean(np.square(residual))),
    )


def _directions(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions ``[P, R]`` along which weights are independent under any prior, and the squared
    singular values ``[R]`` of inputs ``[C, P]``; without those in which nothing was scored.

    By the smaller matrix of products, many times faster than by a singular value decomposition.
    """
    candidates, weights = inputs.shape
    if candidates < weights:
        values, left = np.linalg.eigh(inputs @ inputs.T)
        found = inputs.T @ left
    else:
        values, found = np.linalg.eigh(inputs.T @ inputs)
    scored = values > 1e-10 * values.max(initial=0.0)
    found = found[:, scored]
    return values[scored], found / np.linalg.norm(found, axis=0)


def _inputs(space: SearchSpace, candidates: np.ndarray) -> np.ndarray:
    """What the fitness is linear in, float64 ``[C, P]``."""
    by_field = _bends(space.dims(candidates), space.max_dim).reshape(len(candidates), -1)
    masks = len(space.rows)
    of_masks = np.eye(masks)[space.mask(candidates)][:, : masks if masks > 1 else 0]
    return np.concatenate([by_field, of_masks], axis=1)


def _bends(dims: np.ndarray, max_dim: int) -> np.ndarray:
    """How much of each doubling a dimension has: float64 ``[..., K]`` of 0..1."""
    doublings = np.arange(int(max_dim - 1).bit_length())
    return np.clip(np.log2(dims)[..., None] - doublings, 0.0, 1.0)
