"""What a searcher asks about candidates; nothing is scored twice."""

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import integer_array
from optembed_jax.search.score_cache import ScoreCache
from optembed_jax.search.successive_halving import Fitness, successive_halving


class Scorer:
    """What a searcher asks about candidates. It looks up what was scored before.

    Attributes:
      cache: everything scored so far, and in this generation.
    """

    def __init__(self, fitness: Fitness, cache: ScoreCache) -> None:
        self.cache = cache
        self._fitness = checked(fitness)
        self._parts = tuple(map(checked, getattr(fitness, "parts", (fitness,))))
        partial = getattr(fitness, "partial", None)
        self._partial = None if partial is None else checked(partial)

    def known(self, candidates: np.ndarray) -> np.ndarray:
        """Which candidates ``[C, G]`` were scored before, be it on a part: bool ``[C]``."""
        return self.cache.known(candidates)

    def __call__(self, candidates: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` of candidates int32 ``[C, G]`` on all rows.

        Raises:
          InputError: candidates of another shape, or no integers.
        """
        return self._ask(candidates, self._fitness)

    def successive_halving(self, candidates: np.ndarray, keep: int = 1) -> np.ndarray:
        """The same of those that survive successive halving, at least ``keep``; NaN of the others.

        Without parts of the rows to halve on, everybody is scored on all rows.
        """
        return self._ask(candidates, lambda new: successive_halving(self._parts, new, keep))

    def partial(self, candidates: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` of candidates int32 ``[C, G]`` on a part of the rows.

        It is the same part each time. Where the rows are too few for one, everybody is scored on
        all rows, and the cache has no partial evaluations.
        """
        if self._partial is None:
            return self(candidates)
        candidates = self._genes(candidates)
        new = _distinct(candidates[np.isnan(self.cache.lookup_partial(candidates))])
        if len(new):
            self.cache = self.cache.extend(new, partial=self._partial(new))
        return self.cache.lookup_partial(candidates)

    def _genes(self, candidates: np.ndarray) -> np.ndarray:
        """Candidates int32 ``[C, G]``, which are integers: they are not rounded to be."""
        found, genes = integer_array(candidates, "candidates"), self.cache.dims.shape[1]
        if found.ndim != 2 or found.shape[1] != genes:
            raise InputError(f"candidates have shape {list(found.shape)}, not [C, {genes}]")
        return found.astype(np.int32, copy=False)

    def _ask(self, candidates: np.ndarray, ask: Fitness) -> np.ndarray:
        candidates = self._genes(candidates)
        new = _distinct(candidates[np.isnan(self.cache.lookup(candidates))])
        if len(new):
            self.cache = self.cache.extend(new, ask(new))
        return self.cache.lookup(candidates)


def checked(fitness: Fitness) -> Fitness:
    """A fitness whose answers are what they have to be.

    It raises ``InputError`` where they are not: one finite number for each candidate.
    """

    def ask(candidates: np.ndarray) -> np.ndarray:
        answer = np.asarray(fitness(candidates))
        if answer.shape != (len(candidates),) or answer.dtype.kind not in "fiu":
            raise InputError(
                f"the fitness gives {answer.dtype} {list(answer.shape)} for {len(candidates)} "
                f"candidates; one number for each is wanted, [{len(candidates)}]"
            )
        if not (finite := np.isfinite(answer)).all():
            first = int(np.argmin(finite))
            raise InputError(
                f"the fitness of {int((~finite).sum())} of {len(candidates)} candidates is not "
                f"finite: {answer[first]} of {np.asarray(candidates[first]).tolist()}"
            )
        return answer.astype(np.float64)

    return ask


def _distinct(candidates: np.ndarray) -> np.ndarray:
    """Each candidate once, in the order of ``[C, G]``."""
    return np.array(list({row.tobytes(): row for row in candidates}.values()), np.int32)
