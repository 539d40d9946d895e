"""What Orbax does not store or compare: static fields, random generators, arrays without elements.

Orbax v1 (0.12) writes the arrays of a pytree and gives them back in the tree that it is asked for.
The static fields of a dataclass are then those of that tree, whatever was saved; a random key comes
back with the generator it was saved with, whatever is asked for; an array without elements, such
as of a table that lost every row, fails the whole save. (None or ``{}`` where an array was saved
match anything there; ``saved_state`` compares the arrays' names itself.)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

STRUCTURE = "structure"
"""Its key in a state's manifest."""

_REGISTRY = jax.tree_util.default_registry


def describe(state: Any) -> dict[str, str]:
    """What is compared when a state is read, by place in the tree.

    Args:
      state: pytree of dataclasses, mappings, sequences and arrays (or ``jax.ShapeDtypeStruct``).

    Returns:
      The text of each static field of a dataclass (``index.dims``), ``key<fry>`` and the like for a
      random key, shape and dtype of an array without elements.
    """
    found: dict[str, str] = {}
    _describe(state, "", found)
    return found


def check(found: Mapping[str, str], like: Any) -> None:
    """Compare a saved state's description with the tree that is asked for.

    Raises:
      ValueError: they differ; the message names the place and both.
    """
    wanted = describe(like)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            there, asked = (one.get(name, "nothing") for one in (found, wanted))
            raise ValueError(f"{name} is {there}, and {asked} is expected")


def savable(state: Any) -> Any:
    """The state as Orbax takes it: without empty arrays, NumPy's scalars as arrays.

    Raises:
      ValueError: a leaf is neither array nor key; the message names it.
    """

    def leaf_of(path: Any, leaf: Any) -> Any:
        if isinstance(leaf, np.generic):
            leaf = np.asarray(leaf)
        if not hasattr(leaf, "dtype"):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(f"{name} is a {type(leaf).__name__}, and an array is needed")
        return None if _is_empty(leaf) else leaf

    return jax.tree_util.tree_map_with_path(leaf_of, state)


def without_empty(like: Any) -> Any:
    """The tree to ask Orbax for: None in place of each empty array."""
    return jax.tree.map(lambda leaf: None if _is_empty(leaf) else leaf, like)


def with_empty(read: Any, like: Any) -> Any:
    """What was read, with the empty arrays of ``like`` where they belong, on their devices."""

    def leaf_of(wanted: Any, leaf: Any) -> Any:
        if not _is_empty(wanted):
            return leaf
        empty = np.zeros(wanted.shape, wanted.dtype)
        sharding = getattr(wanted, "sharding", None)
        return empty if sharding is None else _placed(empty, sharding)

    return jax.tree.map(leaf_of, like, read, is_leaf=lambda leaf: leaf is None)


def _placed(empty: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    return jax.make_array_from_callback(empty.shape, sharding, lambda index: empty[index])


def _is_empty(leaf: Any) -> bool:
    return leaf is not None and 0 in leaf.shape


def _describe(node: Any, path: str, found: dict[str, str]) -> None:
    if hasattr(node, "dtype"):
        if jax.dtypes.issubdtype(node.dtype, jax.dtypes.prng_key):
            found[path] = str(node.dtype)
        elif _is_empty(node):
            found[path] = f"{node.dtype}{list(node.shape)}"
        return
    level = _REGISTRY.flatten_one_level_with_keys(node)
    if level is None:
        return
    children = list(level[0])
    # JAX 0.10 gives every field of a named tuple the name of the first (0.12 does not).
    names = getattr(node, "_fields", None) or [_name(key) for key, _ in children]
    if dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            if field.name not in names:
                found[_join(path, field.name)] = repr(getattr(node, field.name))
    for name, (_, child) in zip(names, children, strict=True):
        _describe(child, _join(path, name), found)


def _name(key: Any) -> str:
    return jax.tree_util.keystr((key,), simple=True)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
