"""The group lasso of rows as an ``optax.GradientTransformation``, for training loops of one's own.

The optimiser's step and the decay of the same step, by the rule that training here follows
(``decay``, ``row_decay="group_lasso"``): the proximal step is taken in the optimiser's own metric,
so it can not be chained behind another optimiser's, and is one transformation with it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optembed_jax.errors import InputError
from optembed_jax.table.decay import RowRule, step_all
from optembed_jax.table.moments import MomentRows


class GroupLassoState(NamedTuple):
    """What :func:`group_lasso` remembers; each a pytree like the parameters, but for ``step``.

    Attributes:
      step: int32 scalar, steps taken.
      visits: int32 ``[V]``, steps that read each row.
      mu: first moments, of the parameters' shapes; None each where the optimiser has none.
      nu: second moments, of the parameters' shapes, or ``[V]`` where they are row-wise.
      columns: int32 ``[V]``, columns that were ever read, of ``[V, D]`` where moments are row-wise;
        else None each.
    """

    step: jax.Array
    visits: Any
    mu: Any
    nu: Any
    columns: Any


def group_lasso(
    learning_rate: float | Callable[[jax.Array], Any],
    weight: float = 1e-3,
    l2: float = 0.0,
    optimiser: str = "adam",
) -> optax.GradientTransformationExtraArgs:
    """An optimiser of tables that takes the group lasso's proximal step with its own.

    Every array it is given is a table: its first axis is rows. Give it the rest of a model by
    ``optax.partition``. All rows pay in every step from their first visit on; moments of rows that
    the step does not read stand still. The state has the size of the moments: there is no sparse
    form here, use ``train_step`` for that.

    ``update`` needs ``params``, and takes one more argument by name, ``is_read``: bool ``[V]``,
    rows that the batch reads; then all tables have ``V`` rows. Without it the rows that are read
    are those with a gradient that is not 0, which is the same but where a gradient is 0 by chance
    or by a mask.

    Args:
      learning_rate: above 0, or a schedule of Optax: steps taken to the rate.
      weight: of the norm of each row, at least 0.
      l2: of half its square, at least 0.
      optimiser: one of ``moments.TABLE_OPTIMISERS``.

    Raises:
      InputError: a setting outside its range; from ``init`` and ``update``, what is no float table
        ``[V, D]`` or ``[V]``, parameters that were not given, rows of another number.
    """
    rate = 1.0 if callable(learning_rate) else learning_rate
    for name, value in (("weight", weight), ("l2", l2)):
        if not value >= 0:
            raise InputError(f"group_lasso: {name} must be at least 0, not {value}")
    if not rate > 0:
        raise InputError(f"group_lasso: learning_rate must be above 0, not {rate}")
    moments = RowRule("group_lasso", rate, l2, weight, optimiser).moments

    def init(params: Any) -> GroupLassoState:
        jax.tree_util.tree_map_with_path(_check_table, params)

        def second(value: jax.Array) -> jax.Array:
            return jnp.zeros(value.shape[:1] if moments.is_rowwise else value.shape, value.dtype)

        def first(value: jax.Array) -> jax.Array | None:
            return jnp.zeros_like(value) if moments.has_first else None

        def columns(value: jax.Array) -> jax.Array | None:
            return _none_read(value) if moments.is_rowwise and value.ndim == 2 else None

        return GroupLassoState(
            step=jnp.zeros((), jnp.int32),
            visits=jax.tree.map(_none_read, params),
            mu=jax.tree.map(first, params),
            nu=jax.tree.map(second, params),
            columns=jax.tree.map(columns, params),
        )

    def update(
        updates: Any,
        state: GroupLassoState,
        params: Any = None,
        *,
        is_read: jax.Array | None = None,
        **others: Any,
    ) -> tuple[Any, GroupLassoState]:
        del others  # Of the transformations beside this one.
        if params is None:
            raise InputError("group_lasso: update(gradients, state, params) needs the params")
        lr = learning_rate(state.step) if callable(learning_rate) else learning_rate
        rule = RowRule("group_lasso", lr, l2, weight, optimiser)
        step = state.step + 1

        def of_table(path: Any, value: jax.Array, gradient: jax.Array, *memory: Any) -> Any:
            visits, mu, nu, columns = memory
            read = _rows_with_gradient(gradient) if is_read is None else is_read
            if read.shape != value.shape[:1] or read.dtype != bool:
                raise InputError(
                    f"group_lasso: is_read is {read.dtype} of shape {list(read.shape)}, and the "
                    f"table{_at(path)} has {value.shape[0]} rows: bool [{value.shape[0]}] is wanted"
                )
            visits = visits + read.astype(jnp.int32)
            before = MomentRows(value, mu, nu, columns)
            return step_all(rule, before, gradient, step, read, visits), visits

        treedef: Any = jax.tree.structure(params)
        tables, paths = [], jax.tree_util.tree_flatten_with_path(params)[0]
        parts = (updates, state.visits, state.mu, state.nu, state.columns)
        leaves = (treedef.flatten_up_to(part) for part in parts)
        for (path, value), *rest in zip(paths, *leaves, strict=True):
            tables.append(of_table(path, value, *rest))

        def whole(part: Callable[[MomentRows, jax.Array], Any]) -> Any:
            return treedef.unflatten([part(*table) for table in tables])

        after = GroupLassoState(
            step=step,
            visits=whole(lambda _, visits: visits),
            mu=whole(lambda rows, _: rows.mu),
            nu=whole(lambda rows, _: rows.nu),
            columns=whole(lambda rows, _: rows.columns),
        )
        stepped = whole(lambda rows, _: rows.value)
        return jax.tree.map(lambda new, old: new - old, stepped, params), after

    return optax.GradientTransformationExtraArgs(init, update)


def _none_read(value: jax.Array) -> jax.Array:
    return jnp.zeros(value.shape[:1], jnp.int32)


def _rows_with_gradient(gradient: jax.Array) -> jax.Array:
    return jnp.any(gradient != 0, axis=tuple(range(1, gradient.ndim)))


def _check_table(path: Any, value: jax.Array) -> None:
    if jnp.ndim(value) not in (1, 2) or not jnp.issubdtype(jnp.asarray(value).dtype, jnp.floating):
        raise InputError(
            f"group_lasso: the table{_at(path)} is {jnp.asarray(value).dtype} of shape "
            f"{list(jnp.shape(value))}: float [V, D] or [V] is wanted; give the rest of the model "
            "another optimiser by optax.partition"
        )


def _at(path: Any) -> str:
    return f" {name}" if (name := jax.tree_util.keystr(path)) else ""
