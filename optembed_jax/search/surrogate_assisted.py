"""An evolution that a model of all that was scored guides."""

import dataclasses
import functools

import jax
import numpy as np

from optembed_jax.search.loop import Patience, SearchConfig
from optembed_jax.search.partial_evaluation import likely
from optembed_jax.search.population import Population
from optembed_jax.search.score_cache import ScoreCache
from optembed_jax.search.scorer import Scorer
from optembed_jax.search.searchers import first_generation, propose, select
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.surrogate import Surrogate, fit_surrogate

_FINALIST_OF = 5
"""Of so many that a surrogate-assisted search evaluates partially, one is scored on all rows."""


@dataclasses.dataclass(frozen=True, eq=False)
class SurrogateAssistedEvolution:
    """An evolution that scores only what a model of all that was scored thinks good.

    The model (``surrogate``) makes a guess for each candidate that is to be scored. By every other
    guess that is the best table of the whole space, by the rest the best of ``pool`` times as many
    offspring as are scored.

    Where there are very many rows, it evaluates partially what is proposed (``Scorer.partial``),
    and scores on all rows only the fifth of it that is likely best.

    Attributes:
      space: of the candidates; a limit holds for every candidate.
      config: settings.
      seeds: int32 ``[S, G]``, candidates of the first generation; the rest of it is random. All of
        it is scored on all rows.
      pool: at least 1.

    Raises:
      InputError: seeds that are not in the space.
    """

    space: SearchSpace
    config: SearchConfig
    seeds: np.ndarray
    pool: int = 10

    def __post_init__(self) -> None:
        self.space.check(self.seeds)

    def __call__(self, key: jax.Array, population: Population, score: Scorer) -> Population:
        """The best ``top_k`` of the population and of what was scored."""
        if len(population):
            candidates = self._assisted(key, population, score)
        else:
            candidates = first_generation(key, self.space, self.config, self.seeds, score)
        # Parents that another searcher left were never partially evaluated.
        score.partial(np.concatenate([population.dims, candidates]))
        finalists = candidates
        if len(population):
            expected = likely(self.space, score.cache).lookup(candidates)
            count = -(-len(candidates) // _FINALIST_OF)
            finalists = candidates[np.argsort(-expected, kind="stable")[:count]]
        score(finalists)
        return select(
            np.concatenate([population.dims, candidates]),
            np.concatenate([population.fitness, score.cache.lookup(candidates)]),
            self.config.top_k,
        )

    def patience(self, cache: ScoreCache) -> Patience:
        """Less than a plain search's, where the model predicts what was scored.

        Where it does not, as where fields are worth something only together, it cannot tell that
        nothing is left to be found. (On clicks and ratings it left less unexplained after five
        generations, and more where it had to wait: docs/search.md.)
        """
        model = _model_of(self.space, cache)
        return Patience(5, 5e-4) if model.unexplained < 0.18 else Patience()

    def _assisted(self, key: jax.Array, population: Population, score: Scorer) -> np.ndarray:
        pool_key, worth_key = jax.random.split(key)
        wide = dataclasses.replace(
            self.config,
            mutation_num=self.pool * self.config.mutation_num,
            crossover_num=self.pool * self.config.crossover_num,
        )
        pool = propose(pool_key, population.dims, self.space, wide, score)
        worth = _model_of(self.space, score.cache).draw(worth_key, self.config.offspring)
        best_first = np.argsort(-worth.of(self.space, pool), axis=1, kind="stable")
        chosen: dict[bytes, np.ndarray] = {}
        for guess, order in enumerate(best_first):
            wanted = pool[order]
            if guess % 2 == 0:
                best = self.space.best(worth.of_dims[guess], worth.of_masks[guess])[None]
                wanted = np.concatenate([best[~score.known(best)], wanted])
            new = (candidate for candidate in wanted if candidate.tobytes() not in chosen)
            if (candidate := next(new, None)) is not None:
                chosen[candidate.tobytes()] = candidate
        return np.array(list(chosen.values()), np.int32).reshape(-1, pool.shape[1])


@functools.lru_cache(maxsize=1)
def _model_of(space: SearchSpace, cache: ScoreCache) -> Surrogate:
    """The model of what was scored; asked for the next generation and the stop."""
    known = likely(space, cache)
    scored = ~np.isnan(known.fitness)
    return fit_surrogate(space, known.dims[scored], known.fitness[scored])
