"""What was scored before: candidates and their fitness as two arrays, fit for a checkpoint."""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreCache:
    """Candidates that were scored, in the order in which they were; immutable.

    Attributes:
      dims: int32 ``[n, F]``, distinct.
      fitness: float64 ``[n]`` on all rows; NaN for those that fell out of a race before.
    """

    dims: np.ndarray
    fitness: np.ndarray

    def __post_init__(self) -> None:
        if self.dims.ndim != 2 or self.fitness.shape != self.dims.shape[:1]:
            raise ValueError(
                f"dims {self.dims.shape} and fitness {self.fitness.shape} are not [n, F] and [n]"
            )

    @classmethod
    def empty(cls, num_fields: int) -> "ScoreCache":
        """Nothing scored yet, of ``F`` fields."""
        return cls(np.zeros((0, num_fields), np.int32), np.zeros((0,), np.float64))

    def __len__(self) -> int:
        return len(self.dims)

    def __contains__(self, candidate: np.ndarray) -> bool:
        """Whether a candidate ``[F]`` was scored, also when it fell out of its race."""
        return _key(candidate) in self._index

    def known(self, dims: np.ndarray) -> np.ndarray:
        """Which of the candidates ``[C, F]`` were scored: bool ``[C]``."""
        return np.array([candidate in self for candidate in dims], bool)

    def lookup(self, dims: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` of candidates ``[C, F]``; NaN of those without one."""
        places = [self._index.get(_key(candidate), -1) for candidate in dims]
        return np.append(self.fitness, np.nan)[np.array(places, np.int64)]

    def extend(self, dims: np.ndarray, fitness: np.ndarray) -> "ScoreCache":
        """With more candidates ``[C, F]`` and their fitness ``[C]``.

        A candidate that is there already keeps its place; a NaN gives way to a number, and never
        the other way round.
        """
        index, fitnesses = dict(self._index), self.fitness.tolist()
        added: list[np.ndarray] = []
        for candidate, value in zip(dims, fitness, strict=True):
            place = index.setdefault(_key(candidate), len(fitnesses))
            if place == len(fitnesses):
                added.append(candidate)
                fitnesses.append(value)
            elif np.isnan(fitnesses[place]):
                fitnesses[place] = value
        new = np.array(added, np.int32).reshape(-1, self.dims.shape[1])
        return ScoreCache(np.concatenate([self.dims, new]), np.array(fitnesses, np.float64))

    @functools.cached_property
    def _index(self) -> dict[bytes, int]:
        return {_key(candidate): place for place, candidate in enumerate(self.dims)}


def _key(candidate: np.ndarray) -> bytes:
    return np.asarray(candidate, np.int32).tobytes()
