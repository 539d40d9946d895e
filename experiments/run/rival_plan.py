"""How a rival keeps to --max_bundle_bytes: as much of its own kind as the bundle has room for.

What a rival decides is a function of the numbers that its table may keep: rows, dimensions, buckets
or single numbers follow from that. So the budget of numbers is sought, by the bytes of the folder
that each choice would end in. Those are counted and not estimated: the folder is made, of a model
whose parameters are drawn, in the storage that the export will take. Its size does not depend on
what parameters are.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.run.bundle_plan import provenance_of
from experiments.run.exported import Exported, own_storage, served_of
from experiments.run.trained import Run, abstract
from optembed_jax.errors import BudgetError
from optembed_jax.fields import Fields
from optembed_jax.serving.forward_module import PLATFORMS
from optembed_jax.serving.kept_table import KeptTable
from optembed_jax.serving.planned_bytes import STORAGE
from optembed_jax.serving.stored_model import Storage

_COUNTED = 12
"""Folders that are counted at most: each takes seconds."""

_NEAR = 0.003
"""Of the limit, that may be left: a metric with a digit more is some bytes, too."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a rival keeps under a limit of bytes.

    Attributes:
      choice: what it keeps.
      numbers: the budget that it chose under.
      folder_bytes: of the bundle, at most.
    """

    choice: KeptTable
    numbers: int
    folder_bytes: int


def spend(
    choose: Callable[[int], KeptTable],
    bytes_of: Callable[[KeptTable], int],
    fields: Fields,
    most: int,
    max_bytes: int,
    method: str,
) -> Spent:
    """The largest table that a limit of bytes pays for.

    Args:
      choose: what is kept under a budget of numbers; more numbers never keep less.
      bytes_of: bytes of the folder of a choice.
      fields: of the data set.
      most: numbers of the largest table.
      max_bytes: the limit.
      method: for the message.

    Raises:
      BudgetError: the smallest table takes more; the message says how much.
      InputError: whatever else the rival refuses.
    """
    low, choice = _least(choose, most)
    best = Spent(choice, low, bytes_of(choice))
    if best.folder_bytes > max_bytes:
        raise BudgetError(
            f"--max_bundle_bytes={max_bytes:,} cannot be kept by method={method}: with its "
            f"smallest table, of {choice.numbers(fields):,} numbers, the bundle takes up to "
            f"{best.folder_bytes:,} bytes; raise it, or lower --mlp_dims or --latent_dim, or say "
            "fewer bits, --storage"
        )
    choice = choose(most)
    high, above = most, bytes_of(choice)
    if above <= max_bytes:
        return Spent(choice, most, above)
    counted = 2
    while (
        high - low > 1
        and counted < _COUNTED
        and max_bytes - best.folder_bytes > (_NEAR * max_bytes)
    ):
        share = (max_bytes - best.folder_bytes) / (above - best.folder_bytes)
        guess = min(max(low + int((high - low) * share), low + 1), high - 1)
        choice = choose(guess)
        if choice.numbers(fields) == best.choice.numbers(fields):
            # Between two steps of it, which are found by halves.
            guess, step = _next_step(choose, fields, guess, high)
            if step is None:
                break
            choice = step
        used, counted = bytes_of(choice), counted + 1
        if used <= max_bytes:
            low, best = guess, Spent(choice, guess, used)
        else:
            high, above = min(high, max(choice.numbers(fields), low + 1)), used
    return best


def counted_bytes(run: Run) -> Callable[[KeptTable], int]:
    """Of a choice, the bytes of the folder that the run would end in."""
    settings, prepared, model = run.settings, run.prepared, run.settings.model.in_float32
    rng = np.random.default_rng(0)

    def drawn(shapes: Any) -> Any:
        # Near zero and above: whatever is made of them is finite.
        return jax.tree.map(
            lambda leaf: rng.uniform(0.01, 0.03, leaf.shape).astype(leaf.dtype), shapes
        )

    full, batch_stats = drawn(abstract(model, run.prepared.fields))
    provenance = provenance_of(settings, prepared)
    ids, labels = np.zeros((0, prepared.fields.num_columns), np.int32), np.zeros(0, np.float32)

    def bytes_of(choice: KeptTable) -> int:
        made = choice.cut(model, full, prepared.fields)
        params, index = choice.compact(model, made.saved(made.params), prepared.fields)
        exported = Exported(
            model,
            params,
            batch_stats,
            served_of(index, prepared, model.pooling),
            ids,
            labels,
            None,
            provenance,
            prepared.fields.num_features,
            own=own_storage(choice, prepared.fields),
        )
        return exported.bytes_in(_storage_of(exported, settings.storage), PLATFORMS)

    return bytes_of


def _storage_of(exported: Exported, asked: str | None) -> Storage:
    """In what the export will store it, or begin to look from."""
    if exported.own is not None:
        if asked == "float32":
            return exported.own
        return dataclasses.replace(exported.uniform("int8"), rows=exported.own.rows)
    return exported.uniform(STORAGE if asked in (None, "auto") else asked)


def _least(choose: Callable[[int], KeptTable], most: int) -> tuple[int, KeptTable]:
    """The smallest budget that a rival takes, and what it keeps under it."""
    low, high = 0, most
    found = choose(most)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            found, high = choose(middle), middle
        except BudgetError:
            low = middle
    return high, found


def _next_step(
    choose: Callable[[int], KeptTable], fields: Fields, low: int, high: int
) -> tuple[int, KeptTable | None]:
    """The smallest budget in ``(low, high)`` under which more is kept, and that; or None."""
    before, end, found = choose(low).numbers(fields), high, None
    while end - low > 1:
        middle = (low + end) // 2
        choice = choose(middle)
        if choice.numbers(fields) > before:
            end, found = middle, choice
        else:
            low = middle
    return end, found
