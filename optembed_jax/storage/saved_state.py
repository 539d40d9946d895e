"""A saved state, through Orbax (v1 API): written whole or not at all, checked before it is used.

It is a folder that Orbax writes, and a manifest (:mod:`state_manifest`), which also holds what
Orbax does not compare (:mod:`state_structure`).
"""

import concurrent.futures
import contextlib
import contextvars
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from optembed_jax.errors import CheckpointError, InputError
from optembed_jax.storage import barrier, state_manifest, state_structure
from optembed_jax.storage.object_store import absolute

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def save(path: epath.PathLike, state: Any) -> None:
    """Write a pytree of arrays, replacing what is there; a reader never takes half of it for all.

    Args:
      path: folder to write; its parent must exist.
      state: pytree whose leaves are arrays, also without elements, or PRNG keys; None stands for an
        absent part.

    Raises:
      CheckpointError: it cannot be written, such as to a full disk.
    """
    folder = absolute(path)
    try:
        if jax.process_index() == 0:
            state_manifest.remove(folder)
        barrier.wait(f"before {folder}")
        uninterrupted(ocp.save, folder, state_structure.savable(_of_all_processes(state)))
        if jax.process_index() == 0:
            state_manifest.write(
                folder, {state_structure.STRUCTURE: state_structure.describe(state)}
            )
        barrier.wait(f"after {folder}")
    except Exception as error:  # Orbax and TensorStore raise many kinds.
        with contextlib.suppress(OSError):  # Other threads of Orbax may still be writing.
            for unfinished in folder.parent.glob(f"{folder.name}.orbax-checkpoint-tmp*"):
                state_manifest.remove(unfinished)
        raise CheckpointError(f"{folder} cannot be written: {error}") from error


def restore(
    path: epath.PathLike, like: Any, *, on_host: bool = False, way_out: str = "save it again"
) -> Any:
    """Read what :func:`save` wrote.

    Args:
      path: the folder.
      like: pytree of arrays or ``jax.ShapeDtypeStruct`` with the structure, shapes and dtypes that
        are expected, such as ``jax.eval_shape`` of the function that makes the state. A leaf with
        a sharding is restored to it, on whichever devices the state was saved; one without goes
        to the first device.
      on_host: read arrays as NumPy ones, and put nothing on a device.
      way_out: what a person is to do where it cannot be used.

    Returns:
      The pytree.

    Raises:
      InputError: no finished state is there, it is damaged, or it has another structure, shapes,
        static fields or random generator; the message names the leaf, and ends with the way out.
    """
    folder = absolute(path)
    try:
        if not folder.exists():
            raise InputError(f"no saved state at {path}")
        state_manifest.verify(folder)
        return read(path, like, on_host=on_host)
    except InputError as error:
        raise InputError(f"{error}; {way_out}") from error


def read(path: epath.PathLike, like: Any, *, on_host: bool = False) -> Any:
    """What :func:`restore` gives, of a state that was verified; arguments and errors as there."""
    folder = absolute(path)
    first: jax.sharding.Sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if jax.process_count() > 1:
        mesh = jax.sharding.Mesh(jax.devices(), ("devices",))
        first = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def expected(leaf: Any) -> Any:
        if on_host:  # Of no size, whatever its shape.
            return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)
        sharding = getattr(leaf, "sharding", None) or first
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    try:
        wanted = state_structure.without_empty(like)
        _check_shapes(uninterrupted(ocp.metadata, folder).metadata, wanted)
        structure = state_manifest.content(folder).get(state_structure.STRUCTURE)
        if structure is not None:  # States of earlier versions have none.
            state_structure.check(structure, like)
        found = uninterrupted(ocp.load, folder, jax.tree.map(expected, wanted))
        return state_structure.with_empty(found, jax.tree.map(expected, like))
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"the saved state at {path} cannot be used: {error}") from error


def _check_shapes(saved: Any, like: Any) -> None:
    """Before a read begins: Orbax leaves reads behind that it drops when another one fails.

    Raises:
      ValueError: an array is missing, unknown, or of another shape or dtype.
    """

    def arrays(tree: Any) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {
            jax.tree_util.keystr(path, simple=True, separator="."): (tuple(leaf.shape), leaf.dtype)
            for path, leaf in leaves
        }

    def data_of(leaf: Any) -> Any:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf

    found, wanted = arrays(saved), arrays(jax.tree.map(data_of, like))
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            there, asked = (
                f"{array[1]}{list(array[0])}" if array else "nothing"
                for array in (found.get(name), wanted.get(name))
            )
            raise ValueError(f"{name} is {there}, and {asked} is expected")


def uninterrupted(
    call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """A call of Orbax in a thread of its own, where no signal's handler cuts it in two.

    Python runs handlers in the main thread. One that raises in the midst of a write leaves threads
    of Orbax behind that wait 300 s for each other, and for which the process waits at its end; one
    that raises in an event loop, with which Orbax reads, is printed and forgotten. Here what a
    handler raises comes out when the call has ended.

    Returns:
      What the call returns, or raises.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        asked = functools.partial(call, *args, **kwargs)
        return thread.submit(contextvars.copy_context().run, asked).result()


def _of_all_processes(state: Any) -> Any:
    """What one process alone holds, and all alike, as NumPy arrays, which the first one writes."""
    if jax.process_count() == 1:
        return state
    return jax.tree.map(
        lambda leaf: (
            np.asarray(leaf)
            if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
            else leaf
        ),
        state,
    )
