"""What was scored before: candidates and their fitness as two arrays, fit for a checkpoint."""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreCache:
    """Candidates that were scored, in the order in which they were; immutable.

    Attributes:
      dims: int32 ``[n, F]``, distinct.
      fitness: float64 ``[n]`` on all rows; NaN for those that fell out of successive halving
        before, or were only partially evaluated.
      partial: float64 ``[n]`` on the part of the rows that a surrogate-assisted search looks at
        first; NaN for those that were not looked at there.
    """

    dims: np.ndarray
    fitness: np.ndarray
    partial: np.ndarray

    def __post_init__(self) -> None:
        count = self.dims.shape[:1]
        if self.dims.ndim != 2 or not self.fitness.shape == self.partial.shape == count:
            raise ValueError(
                f"dims {self.dims.shape}, fitness {self.fitness.shape} and partial "
                f"{self.partial.shape} are not [n, F], [n] and [n]"
            )

    @classmethod
    def empty(cls, num_fields: int) -> "ScoreCache":
        """Nothing scored yet, of ``F`` fields."""
        return cls(np.zeros((0, num_fields), np.int32), np.zeros((0,)), np.zeros((0,)))

    def __len__(self) -> int:
        return len(self.dims)

    def __contains__(self, candidate: np.ndarray) -> bool:
        """Whether a candidate ``[F]`` was scored, be it on a part of the rows."""
        return _key(candidate) in self._index

    def known(self, dims: np.ndarray) -> np.ndarray:
        """Which of the candidates ``[C, F]`` were scored: bool ``[C]``."""
        return np.array([candidate in self for candidate in dims], bool)

    def lookup(self, dims: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` of candidates ``[C, F]``; NaN of those without one."""
        return self._found(self.fitness, dims)

    def lookup_partial(self, dims: np.ndarray) -> np.ndarray:
        """What partial evaluations said, float64 ``[C]``, of candidates ``[C, F]``; NaN without
        one.
        """
        return self._found(self.partial, dims)

    def extend(
        self,
        dims: np.ndarray,
        fitness: np.ndarray | None = None,
        partial: np.ndarray | None = None,
    ) -> "ScoreCache":
        """With more candidates ``[C, F]``, and their fitness or what partial evaluations say,
        ``[C]``.

        A candidate that is there already keeps its place; a NaN gives way to a number, and never
        the other way round.
        """
        unknown = np.full(len(dims), np.nan)
        index = dict(self._index)
        places = [index.setdefault(_key(candidate), len(index)) for candidate in dims]
        every = [np.frombuffer(key, np.int32) for key in index]

        def merged(known: np.ndarray, said: np.ndarray | None) -> np.ndarray:
            values = np.concatenate([known, np.full(len(index) - len(known), np.nan)])
            for place, value in zip(places, unknown if said is None else said, strict=True):
                if np.isnan(values[place]):
                    values[place] = value
            return values

        return ScoreCache(
            np.array(every, np.int32).reshape(-1, self.dims.shape[1]),
            merged(self.fitness, fitness),
            merged(self.partial, partial),
        )

    def _found(self, values: np.ndarray, dims: np.ndarray) -> np.ndarray:
        places = [self._index.get(_key(candidate), -1) for candidate in dims]
        return np.append(values, np.nan)[np.array(places, np.int64)]

    @functools.cached_property
    def _index(self) -> dict[bytes, int]:
        return {_key(candidate): place for place, candidate in enumerate(self.dims)}


def _key(candidate: np.ndarray) -> bytes:
    return np.asarray(candidate, np.int32).tobytes()
