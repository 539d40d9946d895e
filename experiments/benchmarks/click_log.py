"""The shape of a click log, without the log: fields whose sizes fall off, ids that follow Zipf."""

import numpy as np

from optembed_jax.fields import Fields

NUM_FIELDS = 39
"""As many as Criteo has."""


FEWEST_ROWS = 10 * NUM_FIELDS
"""Below, the smallest fields would leave nothing for the largest."""


def field_sizes(rows: int) -> tuple[int, ...]:
    """Sizes that fall off by a power of their rank and add up to ``rows``, from FEWEST_ROWS up."""
    weights = 1.0 / np.arange(1, NUM_FIELDS + 1) ** 1.2
    sizes = np.maximum((weights / weights.sum() * rows).astype(int), 4)
    sizes[0] += rows - sizes.sum()
    return tuple(int(size) for size in sizes)


def fields_of(rows: int) -> Fields:
    """Fields of ``rows`` rows in all."""
    return Fields(tuple(f"f{number}" for number in range(NUM_FIELDS)), field_sizes(rows))


def zipf_batches(
    fields: Fields, batch: int, count: int, exponent: float = 1.1
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of ids int32 ``[B, F]`` and labels float32 ``[B]``.

    The ``n``-th most frequent value of a field comes up in proportion to ``n ** -exponent``; which
    row it has is drawn.
    """
    rng = np.random.default_rng(0)
    columns = []
    for offset, size in zip(fields.offsets, fields.sizes, strict=True):
        share = np.cumsum(np.arange(1, size + 1) ** -exponent)
        ranks = np.searchsorted(share, rng.random((count, batch)) * share[-1])
        columns.append(offset + rng.permutation(size)[np.minimum(ranks, size - 1)])
    ids = np.stack(columns, axis=-1).astype(np.int32)
    labels = (rng.random((count, batch)) < 0.25).astype(np.float32)
    return list(zip(ids, labels, strict=True))
