"""What a searcher asks about candidates; nothing is scored twice."""

import numpy as np

from optembed_jax.search.racing import Fitness, race
from optembed_jax.search.score_cache import ScoreCache


class Scorer:
    """What a searcher asks about candidates. It looks up what was scored before.

    Attributes:
      cache: everything scored so far, and in this generation.
    """

    def __init__(self, fitness: Fitness, cache: ScoreCache) -> None:
        self.cache = cache
        self._fitness = fitness
        self._parts = tuple(getattr(fitness, "parts", (fitness,)))
        self._at_a_glance = getattr(fitness, "at_a_glance", None)

    def known(self, candidates: np.ndarray) -> np.ndarray:
        """Which candidates ``[C, G]`` were scored before, be it on a part: bool ``[C]``."""
        return self.cache.known(candidates)

    def __call__(self, candidates: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` of candidates int32 ``[C, G]`` on all rows."""
        return self._ask(candidates, self._fitness)

    def race(self, candidates: np.ndarray, keep: int = 1) -> np.ndarray:
        """The same of those that win a race, at least ``keep``; NaN of the others.

        Without parts of the rows to race on, everybody is scored on all rows.
        """
        return self._ask(candidates, lambda new: race(self._parts, new, keep))

    def glance(self, candidates: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` of candidates int32 ``[C, G]`` on a part of the rows.

        It is the same part each time. Where the rows are too few for one, everybody is scored on
        all rows, and the cache has no glances.
        """
        if self._at_a_glance is None:
            return self(candidates)
        candidates = np.asarray(candidates, np.int32)
        new = _distinct(candidates[np.isnan(self.cache.lookup_glances(candidates))])
        if len(new):
            self.cache = self.cache.extend(new, glances=self._at_a_glance(new))
        return self.cache.lookup_glances(candidates)

    def _ask(self, candidates: np.ndarray, ask: Fitness) -> np.ndarray:
        candidates = np.asarray(candidates, np.int32)
        new = _distinct(candidates[np.isnan(self.cache.lookup(candidates))])
        if len(new):
            self.cache = self.cache.extend(new, ask(new))
        return self.cache.lookup(candidates)


def _distinct(candidates: np.ndarray) -> np.ndarray:
    """Each candidate once, in the order of ``[C, G]``."""
    return np.array(list({row.tobytes(): row for row in candidates}.values()), np.int32)
