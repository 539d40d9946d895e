import numpy as np

from optembed_jax.fitness.masked import over_masks
from optembed_jax.fitness.validation_fitness import ValidationFitness
from optembed_jax.search.space import SearchSpace


def test_each_candidate_is_scored_under_its_own_mask():
    space = SearchSpace(np.array([[5, 5], [3, 3], [1, 1]]), 4)
    asked = []

    def of(mask, part):
        def score(dims):
            asked.append((mask, part, len(dims)))
            return 100.0 * mask + 10 * part + dims.sum(axis=1)

        return score

    fitness = over_masks(
        space, [ValidationFitness((of(m, 0), of(m, 1)), (8, 64)) for m in range(3)]
    )
    candidates = np.array([[1, 2, 3], [4, 4, 1], [2, 2, 3]], np.int32)
    assert fitness.part_rows == (8, 64)
    assert fitness.parts[0](candidates).tolist() == [203, 8, 204]
    assert fitness(candidates).tolist() == [213, 18, 214]
    # Once for all candidates of a mask; the second mask, which nobody has, is not asked.
    assert asked == [(0, 0, 1), (2, 0, 2), (0, 1, 1), (2, 1, 2)]
    assert fitness(candidates[:0]).shape == (0,)
