"""Fitness of candidates: the validation AUC of the frozen supernet under given dimensions.

Many candidates are scored at once (OptEmbed, section 3.3.2): ``vmap`` runs over their dimensions
alone, so that a batch's rows are gathered once for all of them.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import DivergedError
from optembed_jax.forward import ModelConfig, Params, Selection, forward
from optembed_jax.metrics import auc_on_device
from optembed_jax.racing import Fitness


def candidate_aucs(
    params: Params,
    batch_stats: Any,
    rows: jax.Array | None,
    ids: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    dims: jax.Array,
    *,
    model: ModelConfig,
) -> jax.Array:
    """AUC of each candidate on the same rows. Pure; jit it with ``model`` static.

    Args:
      params: of the supernet.
      batch_stats: of the supernet, used as they are.
      rows: bool ``[V]``, the frozen row mask; None keeps every row.
      ids: int32 ``[M, B, F]``, ``M`` batches.
      labels: float32 0/1 ``[M, B]``.
      weights: float32 ``[M, B]``, 0 for padding.
      dims: int32 ``[C, F]``, one candidate per line.
      model: the model.

    Returns:
      float32 ``[C]``.
    """

    def batch_logits(batch_ids: jax.Array) -> jax.Array:
        def logits_of(candidate: jax.Array) -> jax.Array:
            selection = Selection(rows=rows, dims=candidate)
            return forward(model, params, batch_stats, batch_ids, selection)[0]

        return jax.vmap(logits_of)(dims)

    logits = jax.lax.map(batch_logits, ids)  # [M, C, B]
    scores = jnp.moveaxis(logits, 1, 0).reshape(dims.shape[0], -1)
    return jax.vmap(lambda s: auc_on_device(labels.reshape(-1), s, weights.reshape(-1)))(scores)


@dataclasses.dataclass(frozen=True)
class ValidationFitness:
    """The fitness function of a search; call it with dims int32 ``[C, F]``.

    Attributes:
      parts: fitness on nested parts of the validation rows, the smallest first, all rows last;
        for :func:`racing.race`. All rows alone where the smallest part would be too small.
      part_rows: rows of each part.
    """

    parts: tuple[Fitness, ...]
    part_rows: tuple[int, ...]

    def __call__(self, dims: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` of candidates ``[C, F]`` on all rows."""
        return self.parts[-1](dims)


def make_fitness(
    model: ModelConfig,
    params: Params,
    batch_stats: Any,
    rows: np.ndarray | None,
    ids: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int = 2048,
    candidates_per_pass: int = 10,
    least_part: int = 1000,
) -> ValidationFitness:
    """The fitness function of a search: :func:`candidate_aucs` on the validation split.

    Args:
      model: the model.
      params: of the supernet.
      batch_stats: of the supernet.
      rows: bool ``[V]``, the frozen row mask; None keeps every row.
      ids: int32 ``[N, F]``, the validation split.
      labels: 0/1 ``[N]``, with both classes.
      batch_size: rows per forward pass.
      candidates_per_pass: candidates per forward pass; memory grows with the product.
      least_part: rows that the smallest part for racing must have; with fewer there is no part.

    The function raises ``DivergedError`` when the supernet's logits are not numbers.
    """
    mask = None if rows is None else jnp.asarray(rows)
    order = stratified_order(labels)
    sizes = part_sizes(len(ids), least_part)

    def on(size: int) -> Fitness:
        return _fitness_on(
            model,
            params,
            batch_stats,
            mask,
            ids[order[:size]],
            labels[order[:size]],
            batch_size,
            candidates_per_pass,
        )

    return ValidationFitness(tuple(on(size) for size in sizes), sizes)


def part_sizes(num_rows: int, least_part: int) -> tuple[int, ...]:
    """Rows of the parts for racing: an eighth, a quarter, all; or all alone.

    Args:
      num_rows: ``N``.
      least_part: what an eighth must have.
    """
    if num_rows // 8 < least_part:
        return (num_rows,)
    return num_rows // 8, num_rows // 4, num_rows


def stratified_order(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """An order of the rows, every beginning of which has the classes in their share, within one.

    Args:
      labels: 0/1 ``[N]``.
      seed: of the order within each class.

    Returns:
      int64 ``[N]``, a permutation.
    """
    rng = np.random.default_rng(seed)
    quantile = np.zeros(len(labels))
    for value in (0, 1):
        members = rng.permutation(np.flatnonzero((np.asarray(labels) != 0) == value))
        quantile[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
    return np.argsort(quantile, kind="stable")


def _fitness_on(
    model: ModelConfig,
    params: Params,
    batch_stats: Any,
    mask: jax.Array | None,
    ids: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    candidates_per_pass: int,
) -> Fitness:
    """Fitness on the given rows."""
    batch_size = min(batch_size, len(ids))
    padding = -len(ids) % batch_size
    batched_ids = jnp.asarray(np.pad(ids, ((0, padding), (0, 0)), mode="edge")).reshape(
        -1, batch_size, ids.shape[1]
    )
    batched_labels = jnp.asarray(np.pad(labels, (0, padding)), jnp.float32).reshape(-1, batch_size)
    weights = jnp.asarray(np.arange(len(ids) + padding) < len(ids), jnp.float32)
    weights = weights.reshape(-1, batch_size)
    scorer = _jitted_candidate_aucs(model)

    def fitness(dims: np.ndarray) -> np.ndarray:
        aucs = []
        for start in range(0, len(dims), candidates_per_pass):
            chunk = dims[start : start + candidates_per_pass]
            # A short last chunk is filled up, so that one compiled program serves all.
            filled = np.pad(chunk, ((0, candidates_per_pass - len(chunk)), (0, 0)), mode="edge")
            scores = scorer(
                params,
                batch_stats,
                mask,
                batched_ids,
                batched_labels,
                weights,
                jnp.asarray(filled, jnp.int32),
            )
            aucs.append(np.asarray(scores, np.float64)[: len(chunk)])
        fitness = np.concatenate(aucs) if aucs else np.zeros((0,), np.float64)
        if np.isnan(fitness).any():
            raise DivergedError(
                f"{int(np.isnan(fitness).sum())} of {len(fitness)} candidates have no AUC: the "
                "supernet's logits are not numbers, or the labels are of one class"
            )
        return fitness

    return fitness


@functools.lru_cache(maxsize=8)
def _jitted_candidate_aucs(model: ModelConfig) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(candidate_aucs, model=model))
