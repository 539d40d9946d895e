"""The first layer of many candidates by differences from one to the next.

Candidates of one generation are mostly alike, and the first layer is linear: what it gives for one
candidate is what it gave for the one before, plus the inputs that came and minus those that went.
So the candidates are put into an order in which neighbours are alike, a walk that starts from
nothing, and each step multiplies only the inputs that differ. In a middle generation that is a
tenth of the columns.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.fitness.folded_mlp import matmul_columns
from optembed_jax.fitness.input_bank import NOTHING


@flax.struct.dataclass
class Walk:
    """The steps from nothing through all candidates; ``T`` terms at most in a step.

    Attributes:
      order: int32 ``[C]``, which candidate a step arrives at.
      rows: int32 ``[C, T]``, the bank's rows that a step adds or takes away.
      inputs: int32 ``[C, T]``, the inputs of the layer at which it does.
      signs: float32 ``[C, T]``: 1 adds, -1 takes away, 0 is behind a step's last term.
      branch: int32 ``[C]``, which of :func:`term_buckets` a step's terms fit into.
      count: int32, candidates; steps beyond are padding.
    """

    order: Any
    rows: Any
    inputs: Any
    signs: Any
    branch: Any
    count: Any


def term_buckets(max_terms: int) -> tuple[int, ...]:
    """Numbers of terms for which a step is compiled: each at most half above the one before.

    Args:
      max_terms: the last of them.
    """
    sizes = [0]
    for power in (2**n for n in range(5, 31)):
        sizes += [size for size in (power, power * 3 // 2) if size < max_terms]
    return (*sizes, max_terms)


def walk(inputs: np.ndarray, max_terms: int, steps: int) -> Walk:
    """Order candidates by going from each to the most alike of the rest.

    Args:
      inputs: int32 ``[C, J]``, the bank's row that each input reads, or ``NOTHING``.
      max_terms: ``T``, terms that a step can have.
      steps: the walk is padded to so many, at least ``C``.
    """
    order = _order(inputs)
    rows = np.zeros((steps, max_terms), np.int32)
    places, signs = np.zeros_like(rows), np.zeros(rows.shape, np.float32)
    terms = np.zeros(steps, np.int32)
    before = np.full(inputs.shape[1], NOTHING, np.int32)
    for step, after in enumerate(inputs[order]):
        changed = before != after
        gone = np.flatnonzero(changed & (before != NOTHING))
        come = np.flatnonzero(changed & (after != NOTHING))
        terms[step] = end = len(gone) + len(come)
        places[step, :end] = np.concatenate([gone, come])
        rows[step, :end] = np.concatenate([before[gone], after[come]])
        signs[step, :end] = np.repeat([-1.0, 1.0], [len(gone), len(come)])
        before = after
    branch = np.searchsorted(term_buckets(max_terms), terms).astype(np.int32)
    padded = np.pad(order, (0, steps - len(order)))
    return Walk(padded, rows, places, signs, branch, np.int32(len(order)))


def _order(inputs: np.ndarray) -> np.ndarray:
    """Nearest neighbour first, from nothing; int32 ``[C]``, the first of equals."""
    here = np.full(inputs.shape[1], NOTHING, np.int32)
    left = list(range(len(inputs)))
    order = []
    while left:
        rest = inputs[left]
        differ = rest != here
        terms = (differ & (rest != NOTHING)).sum(axis=1) + (differ & (here != NOTHING)).sum(axis=1)
        order.append(left.pop(int(terms.argmin())))
        here = inputs[order[-1]]
    return np.array(order, np.int32)


def along(
    steps: Walk,
    kernel: jax.Array,
    bank: jax.Array,
    readout: Callable[[jax.Array, jax.Array], jax.Array],
    group: int,
) -> jax.Array:
    """Go through all candidates; what the first layer gives is read out a group at a time.

    Args:
      steps: the walk, padded to a multiple of ``group``.
      kernel: float ``[J, H]``.
      bank: float ``[R, B]``.
      readout: of the numbers of the steps ``[G]`` and the layer's products float ``[G, H, B]``, to
        ``[G, B]``.
      group: ``G``.

    Returns:
      float ``[C, B]`` in the walk's order; padding is arbitrary.
    """
    max_terms = steps.rows.shape[1]

    def branch(size: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
        def add_terms(step: jax.Array, pre: jax.Array) -> jax.Array:
            if size == 0:
                return pre
            weights = kernel[steps.inputs[step, :size]] * steps.signs[step, :size, None]
            return pre + matmul_columns(weights, bank[steps.rows[step, :size]])

        return add_terms

    branches = [branch(size) for size in term_buckets(max_terms)]

    def go(pre: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        pre = jax.lax.switch(steps.branch[step], branches, step, pre)
        return pre, pre

    def read_group(
        number: jax.Array, carry: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        pre, found = carry
        first = number * group
        numbers = first + jnp.arange(group)
        pre, products = jax.lax.scan(go, pre, numbers)
        read = readout(numbers, products)
        return pre, jax.lax.dynamic_update_slice_in_dim(found, read, first, axis=0)

    start = jnp.zeros((kernel.shape[1], bank.shape[1]), bank.dtype)
    found = jnp.zeros((len(steps.rows), bank.shape[1]), bank.dtype)
    groups = -(-steps.count // group)
    return jax.lax.fori_loop(0, groups, read_group, (start, found))[1]
