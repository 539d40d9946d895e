"""The frozen supernet asked about candidates, some of them at a time, on the rows of a split.

The rows are gathered once in a search where they fit, and programs are compiled once for a model.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.errors import DivergedError, InputError
from optembed_jax.fields import dims_array
from optembed_jax.fitness.candidate_logits import (
    Affines,
    Bank,
    Candidates,
    arrange,
    bank_of,
    candidate_logits,
    logits_of,
    recalibrated_affines,
    shared_affines,
)
from optembed_jax.fitness.folded_mlp import UnitAffine
from optembed_jax.method.bag import Bags
from optembed_jax.metrics import auc_on_device, logloss_on_device
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params

_NAMES = {"auc": "AUC", "logloss": "logloss"}
MEASURES = tuple(_NAMES)
"""What a fitness may be."""
_KEPT_BYTES = 2**29
"""Of banks that are kept from one generation to the next; larger ones are made anew."""
_BATCHES_AT_ONCE = 64
"""In one run of a program: to start one for each takes as long as to score a candidate."""


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Scores candidates on the first rows of a split. Pure but for what it keeps of the rows read.

    Attributes:
      model: the model.
      params: of the supernet.
      batch_stats: of the supernet.
      rows: bool ``[V]``, the frozen row mask; None keeps every row.
      ids: int32 ``[N, F]``, of bags ``[N, S]``, in stratified order.
      is_positive: bool ``[N]``.
      weights: float32 ``[N]``, or None.
      measure: one of ``MEASURES``.
      steps: candidates scored together, a multiple of ``GROUP``.
      batch_size: rows scored together.
      calibration_rows: rows over which batch statistics are recalibrated at the most.
      bags: how slots are pooled to fields, or None.
    """

    model: ModelConfig
    params: Params
    batch_stats: Any
    rows: jax.Array | None
    ids: np.ndarray
    is_positive: np.ndarray
    weights: np.ndarray | None
    measure: str
    steps: int
    batch_size: int
    calibration_rows: int
    bags: Bags | None

    def __call__(self, num_rows: int, dims: np.ndarray) -> np.ndarray:
        """Fitness float64 ``[C]`` on the first ``num_rows`` rows.

        Raises:
          InputError: candidates that are not ``[C, F]`` of integers in 0..``D``.
        """
        fields = self.ids.shape[1] if self.bags is None else len(self.bags.slots)
        dims = dims_array(dims, fields, self.model.latent_dim)
        if dims.ndim != 2:
            raise InputError(f"candidates have shape {list(dims.shape)}, not [C, {fields}]")
        starts = range(0, len(dims), self.steps)
        passes = [self._score(num_rows, dims[start : start + self.steps]) for start in starts]
        fitness = np.concatenate([np.zeros((0,)), *passes])
        if np.isnan(fitness).any():
            unscored = int(np.isnan(fitness).sum())
            raise DivergedError(
                f"{unscored} of {len(fitness)} candidates have no {_NAMES[self.measure]}: the "
                "supernet's logits are not numbers, or the labels are of one class"
            )
        return fitness

    def without_linear(self, field: int) -> "Scorer":
        """With zeros for the linear weights of all rows that a field's ids read."""
        linear = self.params.table.linear
        slots = np.arange(self.ids.shape[1]) if self.bags is None else self.bags.field_of_slot
        columns = np.flatnonzero(slots == field)
        read = np.unique(self.ids[:, columns])
        zeroed = jnp.asarray(linear).at[read].set(0, mode="drop")
        table = dataclasses.replace(self.params.table, linear=zeroed)
        return dataclasses.replace(self, params=dataclasses.replace(self.params, table=table))

    def _score(self, num_rows: int, dims: np.ndarray) -> np.ndarray:
        """One pass over the rows, of at most ``steps`` candidates."""
        candidates = arrange(self.model, dims, self.steps)
        logits = self._logits(num_rows, candidates, self._affines(num_rows, candidates))
        positive = self.is_positive[:num_rows]
        measured = _jitted_measure(self.measure)
        ones, zeros = np.flatnonzero(positive), np.flatnonzero(~positive)
        weights = None
        if self.weights is not None:
            weights = self.weights[ones], self.weights[zeros]
        found = [measured(own[ones], own[zeros], weights) for own in logits[: len(dims)]]
        fitness = np.empty(len(dims))
        fitness[candidates.steps.order[: len(dims)]] = found  # Waits for what still computes.
        return fitness

    def _logits(self, num_rows: int, candidates: Candidates, affines: Affines) -> np.ndarray:
        """float32 ``[C, num_rows]``, in the walk's order."""
        score = _jitted_logits(self.model, self.bags)
        on_device = jax.device_put(candidates)
        found = []
        for start in range(0, num_rows, self._rows_at_once):
            rows = min(self._rows_at_once, num_rows - start)
            batches = -(-rows // self.batch_size)
            read = self._kept_banks(start) if self._keeps_banks else self._batches(start)
            logits = score(self.params, self.rows, read, batches, on_device, affines)
            found += list(np.asarray(logits)[:batches])
        return np.concatenate(found, axis=1)[:, :num_rows]

    @property
    def _rows_at_once(self) -> int:
        batches = -(-len(self.ids) // self.batch_size)
        runs = -(-batches // _BATCHES_AT_ONCE)
        return self.batch_size * -(-batches // runs)

    @functools.cached_property
    def _keeps_banks(self) -> bool:
        ids = jax.ShapeDtypeStruct((self._rows_at_once, self.ids.shape[1]), self.ids.dtype)
        of_run = jax.eval_shape(
            functools.partial(bank_of, model=self.model, bags=self.bags),
            self.params,
            self.rows,
            ids,
        )
        runs = -(-len(self.ids) // self._rows_at_once)
        size = sum(array.size * array.dtype.itemsize for array in jax.tree.leaves(of_run))
        return runs * size <= _KEPT_BYTES

    def _batches(self, start: int) -> jax.Array:
        """Ids int32 ``[K, B, F]`` from a row on; the last row is repeated to fill them."""
        ids = self.ids[start : start + self._rows_at_once]
        filled = np.pad(ids, ((0, self._rows_at_once - len(ids)), (0, 0)), mode="edge")
        return jax.device_put(filled.reshape(-1, self.batch_size, ids.shape[1]))

    def _kept_banks(self, start: int) -> Bank:
        """Their banks, made once in a search."""
        if start not in self._banks:
            make = _jitted_banks(self.model, self.bags)
            self._banks[start] = make(self.params, self.rows, self._batches(start))
        return self._banks[start]

    @functools.cached_property
    def _banks(self) -> dict[int, Bank]:
        return {}

    def _affines(self, num_rows: int, candidates: Candidates) -> Affines:
        if self.model.has_own_backbone:
            return self.batch_stats
        if self.measure == "auc" or not self.batch_stats:
            return _shared_affines(self.params, self.batch_stats, self.steps)
        rows = min(num_rows, self.calibration_rows)
        ids = self.ids[:rows]
        weights = None if self.weights is None else self.weights[:rows]
        recalibrate = _jitted_affines(self.model, self.bags)
        own = [
            recalibrate(self.params, self.rows, ids, dims, weights)
            for dims in candidates.dims[: candidates.steps.count]
        ]
        own += [own[-1]] * (self.steps - len(own))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)


_shared_affines = jax.jit(shared_affines, static_argnames="steps")


@functools.lru_cache(maxsize=8)
def _jitted_logits(model: ModelConfig, bags: Bags | None) -> Callable[..., jax.Array]:
    def of_batches(
        params: Params,
        rows: jax.Array | None,
        read: Bank | jax.Array,
        batches: jax.Array,
        candidates: Candidates,
        affines: Affines,
    ) -> jax.Array:
        """float32 ``[K, C, B]`` of ``K`` banks or ids; zeros but for the first ``batches``."""

        def score_one(number: jax.Array) -> jax.Array:
            own = jax.tree.map(lambda array: array[number], read)
            if isinstance(own, Bank):
                return logits_of(params, own, candidates, affines, model=model)
            return candidate_logits(params, rows, own, candidates, affines, model=model, bags=bags)

        one = jax.eval_shape(score_one, 0)
        found = jnp.zeros((len(jax.tree.leaves(read)[0]), *one.shape), one.dtype)
        return jax.lax.fori_loop(0, batches, lambda n, found: found.at[n].set(score_one(n)), found)

    return jax.jit(of_batches)


@functools.lru_cache(maxsize=8)
def _jitted_banks(model: ModelConfig, bags: Bags | None) -> Callable[..., Bank]:
    def of_batches(params: Params, rows: jax.Array | None, ids: jax.Array) -> Bank:
        return jax.lax.map(lambda batch: bank_of(params, rows, batch, model=model, bags=bags), ids)

    return jax.jit(of_batches)


@functools.lru_cache(maxsize=8)
def _jitted_affines(model: ModelConfig, bags: Bags | None) -> Callable[..., tuple[UnitAffine, ...]]:
    return jax.jit(functools.partial(recalibrated_affines, model=model, bags=bags))


@functools.lru_cache(maxsize=2)
def _jitted_measure(measure: str) -> Callable[..., jax.Array]:
    if measure == "auc":
        return jax.jit(auc_on_device)
    return jax.jit(lambda *of_classes: -logloss_on_device(*of_classes))
