"""How the steps of a phase run on the devices at hand: on one, copied to all, or sharded by rows.

The steps themselves are pure functions of ``train``. A :class:`Steps` compiles them for some
devices, and says how what they work on is put there. Whatever the devices, the numbers are those
of one device, up to the order in which sums are taken.

=====================  =====================  ==============================================
:func:`one_device`     ``jax.jit``            the default device
:func:`pmapped`        ``jax.pmap``           a copy of the state on each, a part of the batch
:func:`row_sharded`    ``jax.jit`` over a     a block of the table's rows and of all that is
                       ``Mesh``               kept per row on each; the rest as with ``pmap``
=====================  =====================  ==============================================
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from optembed_jax.devices.compiled import compiled
from optembed_jax.devices.layout import Tree, specs
from optembed_jax.devices.mesh_placement import MeshPlacement
from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.exchange.row_shards import RowShards
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.models.selection import Embeds, Reading
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import TrainState, bring_up_to_date
from optembed_jax.step.train_step import Phase, eval_step, train_step

AXIS = "devices"
"""Name of the mapped axis."""


def _called(make: Callable[..., TrainState], *arguments: Tree) -> TrainState:
    return make(*arguments)


def _on_first_device(tree: Tree) -> Tree:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), tree
    )


@dataclasses.dataclass(frozen=True)
class Steps:
    """The compiled steps of one phase, on some devices.

    Attributes:
      train: ``(state, ids, labels, frozen) -> (state, loss)``, as ``train_step`` with this
        process's part of a batch; the state is donated. A fifth argument weighs its examples.
      evaluate: ``(params, batch_stats, ids, frozen) -> logits``, as ``train.eval_step``, with the
        whole batch in every process, which all get all its logits.
      bring_up_to_date: ``state -> state``, as ``train.bring_up_to_date``; the state is donated.
      create: ``(make, *arguments) -> state``: what ``make(*arguments)`` is on one device, made
        where it is to stand. Arrays are handed over as arguments, not closed over.
      place: puts a tree where the steps expect it, cut up or copied; what stands there stays. Of
        a NumPy array, a device gets no more than its part.
      layout: the shapes and shardings that ``place`` gives a tree, as ``jax.ShapeDtypeStruct``; of
        a tree or its shapes. Restoring onto it needs no ``place``.
      whole: a copy of a placed tree as one device would have it, on the host, in every process.
    """

    train: Callable[..., tuple[TrainState, jax.Array]]
    evaluate: Callable[[Params, Any, np.ndarray, Embeds], jax.Array]
    bring_up_to_date: Callable[[TrainState], TrainState]
    create: Callable[..., TrainState] = _called
    # Of arrays left on the host each call would copy all: a large table, at every batch.
    place: Callable[[Tree], Tree] = jax.device_put
    layout: Callable[[Tree], Tree] = _on_first_device
    whole: Callable[[Tree], Tree] = jax.device_get


def one_device(phase: Phase, model: ModelConfig, train: TrainConfig) -> Steps:
    """Everything on the default device."""
    return Steps(
        train=_jitted_train_step(phase, model, train),
        evaluate=one_device_evaluation(phase, model),
        bring_up_to_date=_jitted_bring_up_to_date(train),
    )


def devices_in_order() -> list[jax.Device]:
    """All devices of all processes, process by process."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def pmapped(
    phase: Phase,
    model: ModelConfig,
    train: TrainConfig,
    batch_size: int,
    num_features: int,
    devices: Sequence[jax.Device] | None = None,
) -> Steps:
    """A copy of the state on every device, each with its part of the batch.

    Only what works on a batch is mapped by ``pmap``; its copies stand as those of a mesh do. In a
    run of several processes, arrays of ``pmap`` belong to their process, and could be neither
    saved nor restored together; there the same step is compiled by ``jit`` over all devices.

    Args:
      phase: of training.
      model: the model.
      train: the optimiser settings.
      batch_size: of a training batch, over all processes.
      num_features: ``V``.
      devices: as many of each process; None takes all.

    Raises:
      InputError: the batch cannot be split among the processes.
    """
    on_mesh = _on_mesh(phase, model, train, batch_size, num_features, devices, None)
    if jax.process_count() > 1:
        return on_mesh
    devices = devices_in_order() if devices is None else devices
    axis = _batch_axis(batch_size, devices)
    step = jax.pmap(
        functools.partial(train_step, phase=phase, model=model, train=train, batch_axis=axis),
        axis_name=AXIS,
        in_axes=(None, 0, 0, None, 0),
        out_axes=None,
        devices=devices,
        donate_argnums=0,
    )

    def logits_of_all(ids: jax.Array, read: tuple[Params, Any, Embeds]) -> Any:
        params, batch_stats, frozen = read
        own = eval_step(params, batch_stats, ids, frozen, phase=phase, model=model)
        return jax.lax.all_gather(own, AXIS, tiled=True)

    evaluation = jax.pmap(
        logits_of_all,
        axis_name=AXIS,
        # As a nested one: where the arguments have as many leaves as there are arguments, as FM's
        # unpruned model has, jax (0.10.2, 0.12) takes a flat one for that of the leaves.
        in_axes=(0, (None, None, None)),
        out_axes=None,
        devices=devices,
    )

    def train_on(
        state: TrainState,
        ids: np.ndarray,
        labels: np.ndarray,
        frozen: Reading,
        weights: np.ndarray | None = None,
    ) -> Any:
        own = None if weights is None else axis.shard(weights, 0)
        return step(state, axis.shard(ids, num_features), axis.shard(labels, 0), frozen, own)

    def evaluate(params: Params, batch_stats: Any, ids: np.ndarray, frozen: Embeds) -> Any:
        sharded = _shard_evenly(ids, len(devices))
        return evaluation(sharded, (params, batch_stats, frozen))[: len(ids)]

    return dataclasses.replace(on_mesh, train=train_on, evaluate=evaluate)


def row_sharded(
    phase: Phase,
    model: ModelConfig,
    train: TrainConfig,
    batch_size: int,
    num_features: int,
    devices: Sequence[jax.Device] | None = None,
    exchange: str = "all_gather",
    capacity: int | None = None,
) -> Steps:
    """The table's rows, and all that is kept per row, sharded over the devices.

    Args:
      phase: of training.
      model: the model.
      train: the optimiser settings.
      batch_size: of a training batch, over all processes.
      num_features: ``V``.
      devices: as many of each process; None takes all.
      exchange: how rows come to who reads them, one of ``row_shards.EXCHANGES``.
      capacity: of ``all_to_all``, see ``RowShards``.

    Raises:
      InputError: the batch cannot be split among the processes.
    """
    devices = devices_in_order() if devices is None else devices
    shards = RowShards(AXIS, len(devices), num_features, exchange, capacity)
    return _on_mesh(phase, model, train, batch_size, num_features, devices, shards)


def _on_mesh(
    phase: Phase,
    model: ModelConfig,
    train: TrainConfig,
    batch_size: int,
    num_features: int,
    devices: Sequence[jax.Device] | None,
    shards: RowShards | None,
) -> Steps:
    """The steps over all devices of all processes, with the rows sharded over them or not."""
    devices = devices_in_order() if devices is None else devices
    axis = _batch_axis(batch_size, devices)
    mesh = Mesh(devices, (AXIS,), axis_types=(AxisType.Auto,))
    split, everywhere = PartitionSpec(AXIS), PartitionSpec()
    specs_of = functools.partial(specs, model, axis=None if shards is None else AXIS)
    placement = MeshPlacement(model, mesh, shards)

    def mapped(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        # Unchecked, gradients are those of each device's own loss, which the step averages; the
        # checked form adds them up over the devices before the step does.
        return jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )

    @functools.partial(jax.jit, donate_argnums=0)
    def step(
        state: TrainState,
        ids: jax.Array,
        labels: jax.Array,
        frozen: Reading,
        weights: jax.Array | None,
    ) -> Any:
        one = functools.partial(
            train_step, phase=phase, model=model, train=train, batch_axis=axis, shards=shards
        )
        of_state = specs_of(state)
        in_specs = (of_state, split, split, specs_of(frozen), split)
        sharded = mapped(one, in_specs, (of_state, everywhere))
        return sharded(state, ids, labels, frozen, weights)

    @jax.jit
    def evaluation(params: Params, batch_stats: Any, ids: jax.Array, frozen: Embeds) -> Any:
        def logits_of_all(*arguments: Any) -> jax.Array:
            own = eval_step(*arguments, phase=phase, model=model, batch_axis=axis, shards=shards)
            return jax.lax.all_gather(own, AXIS, tiled=True)

        in_specs = (specs_of(params), everywhere, split, specs_of(frozen))
        return mapped(logits_of_all, in_specs, everywhere)(params, batch_stats, ids, frozen)

    @functools.partial(jax.jit, donate_argnums=0)
    def up_to_date(state: TrainState) -> TrainState:
        of_state = specs_of(state)
        return mapped(functools.partial(bring_up_to_date, train=train), (of_state,), of_state)(
            state
        )

    def put(part: np.ndarray) -> jax.Array:
        flat = part.reshape(-1, *part.shape[2:])
        return jax.make_array_from_process_local_data(NamedSharding(mesh, split), flat)

    def train_on(
        state: TrainState,
        ids: np.ndarray,
        labels: np.ndarray,
        frozen: Reading,
        weights: np.ndarray | None = None,
    ) -> Any:
        own = None if weights is None else put(axis.shard(weights, 0))
        ids, labels = axis.shard(ids, num_features), axis.shard(labels, 0)
        return step(state, put(ids), put(labels), frozen, own)

    def evaluate(params: Params, batch_stats: Any, ids: np.ndarray, frozen: Embeds) -> Any:
        sharded = _shard_evenly(ids, len(devices))
        first = jax.process_index() * axis.devices
        logits = evaluation(params, batch_stats, put(sharded[first : first + axis.devices]), frozen)
        return logits[: len(ids)]

    return Steps(
        train=train_on,
        evaluate=evaluate,
        bring_up_to_date=up_to_date,
        create=placement.create,
        place=placement.place,
        layout=placement.layout,
        whole=placement.whole,
    )


def _batch_axis(batch_size: int, devices: Sequence[jax.Device]) -> BatchAxis:
    processes = jax.process_count()
    if batch_size % processes:
        raise InputError(
            f"a batch of {batch_size} rows does not divide among {processes} processes; "
            f"use a batch_size that is a multiple of {processes}"
        )
    return BatchAxis(AXIS, batch_size, len(devices) // processes, processes)


def _shard_evenly(ids: np.ndarray, devices: int) -> np.ndarray:
    """``[n, b, F]`` of a batch ``[B, F]``, filled up with its last example."""
    ids = np.asarray(ids)
    missing = -len(ids) % devices
    return np.pad(ids, ((0, missing), (0, 0)), mode="edge").reshape(devices, -1, ids.shape[1])


@functools.lru_cache(maxsize=8)
def one_device_evaluation(phase: Phase, model: ModelConfig) -> Callable[..., jax.Array]:
    """``Steps.evaluate`` of :func:`one_device`, which needs no optimiser settings."""
    return compiled(functools.partial(eval_step, phase=phase, model=model))


@functools.lru_cache(maxsize=8)
def _jitted_train_step(phase: Phase, model: ModelConfig, train: TrainConfig) -> Callable[..., Any]:
    step = functools.partial(train_step, phase=phase, model=model, train=train)
    return compiled(step, donate_argnums=0)


@functools.lru_cache(maxsize=8)
def _jitted_bring_up_to_date(train: TrainConfig) -> Callable[[TrainState], TrainState]:
    return compiled(functools.partial(bring_up_to_date, train=train), donate_argnums=0)
