"""Offspring of an evolution: mutation, crossover, and proposals that were never seen before.

Deliberate departures from the reference (OptEmbed, algorithm 1 of section 3.3.2), all of them
defects there: parents are never edited in place; crossover cuts between fields, not at a number
drawn from the dimensions; every value from 1 to the limit can be drawn; duplicates are redrawn.
"""

from collections.abc import Callable

import jax
import numpy as np

from optembed_jax.search.host_random import generator


def mutate(
    key: jax.Array, parents: np.ndarray, count: int, probability: float, limits: int | np.ndarray
) -> np.ndarray:
    """Offspring by mutation: a random parent with each gene redrawn with some probability.

    Args:
      key: PRNG key.
      parents: int32 ``[K, G]``.
      count: offspring to make.
      probability: that a gene is redrawn, from 1..its limit.
      limits: the largest value of every gene, or of each: int ``[G]``.

    Returns:
      int32 ``[count, G]``.
    """
    rng = generator(key)
    chosen = parents[rng.integers(0, len(parents), count)]
    redraw = rng.random(chosen.shape) < probability
    drawn = rng.integers(1, limits, chosen.shape, np.int32, endpoint=True)
    return np.where(redraw, drawn, chosen)


def crossover(key: jax.Array, parents: np.ndarray, count: int) -> np.ndarray:
    """Offspring by one-point crossover over genes: one parent's head, another's tail.

    The cut lies between two genes, so that both parents contribute; with a single gene, or a
    single parent, a copy of a parent results.

    Args:
      key: PRNG key.
      parents: int32 ``[K, G]``.
      count: offspring to make.

    Returns:
      int32 ``[count, G]``.
    """
    rng = generator(key)
    num_parents, num_genes = parents.shape
    first = rng.integers(0, num_parents, count)
    # Another one than the first.
    second = (first + rng.integers(1, max(num_parents, 2), count)) % num_parents
    cut = rng.integers(1, max(num_genes, 2), (count, 1))
    return np.where(np.arange(num_genes) < cut, parents[first], parents[second])


def draw_new(
    key: jax.Array,
    draw: Callable[[jax.Array], np.ndarray],
    count: int,
    taken: Callable[[np.ndarray], np.ndarray],
    *,
    redraws: int = 10,
) -> np.ndarray:
    """Candidates that nobody has seen; duplicates are redrawn.

    Args:
      key: PRNG key; attempt ``n`` draws from ``fold_in(key, n)``.
      draw: key to candidates int32 ``[C, G]``, the same number each time.
      count: how many are wanted.
      taken: which of the candidates ``[C, G]`` are not to be had: bool ``[C]``.
      redraws: attempts.

    Returns:
      int32 ``[n, G]``, distinct; ``n`` is below ``count`` where the attempts did not find more.
    """
    fresh: dict[bytes, np.ndarray] = {}
    drawn = np.zeros((0, 0), np.int32)
    for attempt in range(redraws):
        if attempt and len(fresh) >= count:
            break
        drawn = draw(jax.random.fold_in(key, attempt))
        for candidate in drawn[~taken(drawn)]:
            if len(fresh) < count:
                fresh.setdefault(candidate.tobytes(), candidate)
    return np.array(list(fresh.values()), np.int32).reshape(-1, drawn.shape[1])
