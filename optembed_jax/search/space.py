"""What a search may choose: a dimension for each field and, where asked, one of several row masks.

A candidate is a vector of ``G`` genes, each in 1..its limit: the ``F`` dimensions, and behind them,
where there is more than one row mask, the number of the mask.
"""

import dataclasses
import functools

import jax
import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.fields import integer_array
from optembed_jax.search import budget
from optembed_jax.search.dimension_rules import DIMENSION_RULES, rule_dims
from optembed_jax.search.host_random import generator


@dataclasses.dataclass(frozen=True, eq=False)
class SearchSpace:
    """Candidates and what they cost.

    Attributes:
      rows: int64 ``[M, F]``, rows that each of ``M`` masks keeps, and where pruned ids read a
        vector that counts, one more per field; as they are paid for, padded where they are.
      max_dim: ``D``.
      limit: what a candidate may cost at most, or None.
      multiple: dimensions are paid for as multiples of it.
      per_dim: parameters that a dimension costs beside those of its rows: of the network.
      beside: what each mask costs beside its dimensions, in parameters, ``M``; empty: nothing.

    Raises:
      InputError: rows of another shape, no dimension to choose, or a limit below the smallest
        table of every mask.
    """

    rows: np.ndarray
    max_dim: int
    limit: int | None = None
    multiple: int = 1
    per_dim: int = 0
    beside: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if np.ndim(self.rows) != 2 or not np.size(self.rows):
            raise InputError(
                f"a search space has rows [M, F], a line for each of M masks, not "
                f"{list(np.shape(self.rows))}; of one mask rows[None]"
            )
        if self.max_dim < 1:
            raise InputError(f"a search space has dimensions from 1, and max_dim={self.max_dim}")
        if self.multiple < 1:
            raise InputError(f"dimensions cannot be padded to a multiple of {self.multiple}")
        if self.limit is not None:
            least = int(np.argmin(self._least))
            left = self.limit - int(self._beside[least])
            budget.check_limit(self._paid[least], left, self.multiple)

    @property
    def num_fields(self) -> int:
        """``F``."""
        return self.rows.shape[1]

    @functools.cached_property
    def limits(self) -> np.ndarray:
        """The largest value of each gene, int32 ``[G]``."""
        masks = [] if len(self.rows) == 1 else [len(self.rows)]
        return np.array([self.max_dim] * self.num_fields + masks, np.int32)

    def dims(self, candidates: np.ndarray) -> np.ndarray:
        """Dimensions int32 ``[..., F]`` of candidates ``[..., G]``."""
        return candidates[..., : self.num_fields]

    def mask(self, candidates: np.ndarray) -> np.ndarray:
        """The number of the row mask, int ``[...]``, from 0, of candidates ``[..., G]``."""
        if len(self.rows) == 1:
            return np.zeros(candidates.shape[:-1], np.int64)
        return candidates[..., -1].astype(np.int64) - 1

    def parameters(self, candidates: np.ndarray) -> np.ndarray:
        """Parameters of the table, int64 ``[...]``, of candidates ``[..., G]``."""
        return budget.table_parameters(
            self.rows[self.mask(candidates)], self.dims(candidates), self.multiple
        )

    def cost(self, candidates: np.ndarray) -> np.ndarray:
        """What the limit bounds, int64 ``[...]``, of candidates ``[..., G]``: the parameters of the
        table, and of whatever else is paid for.
        """
        mask = self.mask(candidates)
        return self._beside[mask] + budget.table_parameters(
            self._paid[mask], self.dims(candidates), self.multiple
        )

    @functools.cached_property
    def _paid(self) -> np.ndarray:
        """What a dimension of each field costs, int64 ``[M, F]``."""
        return np.asarray(self.rows, np.int64) + self.per_dim

    @functools.cached_property
    def _beside(self) -> np.ndarray:
        """What each mask costs beside its dimensions, int64 ``[M]``."""
        return np.array(self.beside or (0,) * len(self.rows), np.int64)

    @functools.cached_property
    def _least(self) -> np.ndarray:
        """The least cost of each mask, int64 ``[M]``."""
        ones = np.ones_like(self.rows)
        return self._beside + budget.table_parameters(self._paid, ones, self.multiple)

    @functools.cached_property
    def size_range(self) -> tuple[int, int]:
        """The least cost, and the largest within the limit."""
        full = np.full_like(self.rows, self.max_dim)
        table = budget.table_parameters(self._paid, full, self.multiple)
        most = int((self._beside + table).max())
        return int(self._least.min()), most if self.limit is None else min(most, self.limit)

    def check(self, candidates: np.ndarray) -> None:
        """Refuse candidates that are not in it.

        Args:
          candidates: int ``[n, G]``.

        Raises:
          InputError: another shape, no integers, a gene outside 1..its limit, or one over the
            space's limit.
        """
        if not np.size(candidates):
            return  # None, as the seeds of a search may be.
        found = integer_array(candidates, "candidates")
        if found.ndim != 2 or found.shape[1] != len(self.limits):
            raise InputError(
                f"candidates have shape {list(found.shape)}, not [n, {len(self.limits)}]"
            )
        outside = ((found < 1) | (found > self.limits)).any(axis=1)
        if outside.any():
            raise InputError(
                f"candidate {found[np.argmax(outside)].tolist()} is not in the search space: its "
                f"genes go from 1 to {self.limits.tolist()}"
            )
        over = np.zeros(0, bool) if self.limit is None else self.cost(found) > self.limit
        if over.any():
            first = found[np.argmax(over)]
            raise InputError(
                f"candidate {first.tolist()} costs {int(self.cost(first)):,}, and the search "
                f"space has a limit of {self.limit:,}; lower it, as SearchSpace.repair does"
            )

    def repair(self, key: jax.Array, candidates: np.ndarray) -> np.ndarray:
        """Candidates ``[C, G]`` within the limit: dimensions are lowered at random.

        A mask whose smallest table is over the limit is replaced by the one that keeps fewest rows.
        """
        candidates = np.array(candidates, np.int32)
        if self.limit is None or not len(candidates):
            return candidates
        if len(self.rows) > 1:
            hopeless = self._least[self.mask(candidates)] > self.limit
            candidates[hopeless, -1] = np.argmin(self._least) + 1
        mask = self.mask(candidates)
        left = self.limit - self._beside[mask]
        lowered = budget.repair(key, self.dims(candidates), self._paid[mask], left, self.multiple)
        candidates[:, : self.num_fields] = lowered
        return candidates

    def draw(self, key: jax.Array, count: int) -> np.ndarray:
        """Random candidates within the limit, int32 ``[count, G]``: drawn evenly, then repaired."""
        draw_key, repair_key = jax.random.split(key)
        shape = (count, len(self.limits))
        drawn = generator(draw_key).integers(1, self.limits, shape, np.int32, endpoint=True)
        return self.repair(repair_key, drawn)

    def best(self, of_dims: np.ndarray, of_masks: np.ndarray) -> np.ndarray:
        """The candidate int32 ``[G]`` within the limit whose genes are together worth most.

        It spends the limit as ``budget.best_dims`` does.

        Args:
          of_dims: float64 ``[F, D]``, what each dimension of each field is worth.
          of_masks: float64 ``[M]``, what each mask is worth.
        """
        found = []
        for mask, rows in enumerate(self._paid):
            if self.limit is None or self._least[mask] <= self.limit:
                left = None if self.limit is None else self.limit - int(self._beside[mask])
                dims = budget.best_dims(of_dims, rows, left, self.multiple)
                total = of_dims[np.arange(self.num_fields), dims - 1].sum() + of_masks[mask]
                found.append((float(total), mask, dims))
        _, mask, dims = max(found, key=lambda each: each[0])
        return dims if len(self.rows) == 1 else np.append(dims, mask + 1).astype(np.int32)

    def near(self, dims: np.ndarray) -> np.ndarray:
        """Candidates int32 ``[n, G]`` of given dimensions, for every mask that can meet the limit.

        Where they cost more than the limit all are lowered in proportion, as little as may be.

        Args:
          dims: int ``[F]``, such as an earlier search found.
        """
        found = []
        for mask, rows in enumerate(self._paid):
            wanted = np.clip(np.asarray(dims), 1, self.max_dim)
            for part in range(8 * self.max_dim, -1, -1):
                own = np.maximum(wanted * part // (8 * self.max_dim), 1).astype(np.int32)
                table = budget.table_parameters(rows, own, self.multiple)
                cost = int(self._beside[mask]) + table
                if self.limit is None or cost <= self.limit:
                    break
            else:
                continue
            found.append(own if len(self.rows) == 1 else np.append(own, mask + 1))
        return np.array(found, np.int32).reshape(-1, len(self.limits))

    def rule_candidates(
        self, limits: tuple[int | None, ...], rules: tuple[str, ...] = DIMENSION_RULES
    ) -> np.ndarray:
        """Candidates by the simple rules, for every mask at every one of the limits that it can
        meet; distinct, int32 ``[n, G]``.
        """
        found = []
        for mask, rows in enumerate(self._paid):
            gene = [] if len(self.rows) == 1 else [mask + 1]
            for limit in limits:
                if limit is not None and limit < self._least[mask]:
                    continue
                left = None if limit is None else limit - int(self._beside[mask])
                found += [
                    (*rule_dims(rule, rows, self.max_dim, left, self.multiple).tolist(), *gene)
                    for rule in rules
                ]
        return np.array(list(dict.fromkeys(found)), np.int32).reshape(-1, len(self.limits))
