"""How the steps of a phase run on the devices at hand.

The steps themselves are pure functions of ``train``. A :class:`Steps` compiles them for some
devices, and says how what they work on is put there.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from optembed_jax.forward import ModelConfig, Params, Reading
from optembed_jax.train import (
    Phase,
    TrainConfig,
    TrainState,
    bring_up_to_date,
    eval_step,
    train_step,
)

Tree = Any
"""A pytree: a ``TrainState``, ``Params``, batch statistics, a ``Reading``, or a tuple of those."""


def _unchanged(tree: Tree) -> Tree:
    return tree


def _called(make: Callable[[], TrainState]) -> TrainState:
    return make()


def _on_first_device(tree: Tree) -> Tree:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), tree
    )


@dataclasses.dataclass(frozen=True)
class Steps:
    """The compiled steps of one phase, on some devices.

    Attributes:
      train: ``(state, ids, labels, frozen) -> (state, loss)``, as ``train.train_step`` with this
        process's part of a batch; the state is donated.
      evaluate: ``(params, batch_stats, ids, frozen) -> logits``, as ``train.eval_step``, with the
        whole batch in every process, which all get all its logits.
      bring_up_to_date: ``state -> state``, as ``train.bring_up_to_date``; the state is donated.
      create: makes a state where it is to stand, of a function that would make it on one device.
      place: puts a tree where the steps expect it, cut up or copied; what stands there stays.
      layout: the shapes and shardings that ``place`` gives a tree, as ``jax.ShapeDtypeStruct``; of
        a tree or its shapes. Restoring onto it needs no ``place``.
      to_save: a placed tree, in a form that every process can hand to Orbax.
      whole: a copy of a placed tree as one device would have it, on the host, in every process.
    """

    train: Callable[[TrainState, np.ndarray, np.ndarray, Reading], tuple[TrainState, jax.Array]]
    evaluate: Callable[[Params, Any, np.ndarray, Reading], jax.Array]
    bring_up_to_date: Callable[[TrainState], TrainState]
    create: Callable[[Callable[[], TrainState]], TrainState] = _called
    place: Callable[[Tree], Tree] = _unchanged
    layout: Callable[[Tree], Tree] = _on_first_device
    to_save: Callable[[Tree], Tree] = _unchanged
    whole: Callable[[Tree], Tree] = jax.device_get


def one_device(phase: Phase, model: ModelConfig, train: TrainConfig) -> Steps:
    """Everything on the default device."""
    return Steps(
        train=_jitted_train_step(phase, model, train),
        evaluate=one_device_evaluation(phase, model),
        bring_up_to_date=_jitted_bring_up_to_date(train),
    )


@functools.lru_cache(maxsize=8)
def one_device_evaluation(phase: Phase, model: ModelConfig) -> Callable[..., jax.Array]:
    """``Steps.evaluate`` of :func:`one_device`, which needs no optimiser settings."""
    return jax.jit(functools.partial(eval_step, phase=phase, model=model))


@functools.lru_cache(maxsize=8)
def _jitted_train_step(phase: Phase, model: ModelConfig, train: TrainConfig) -> Callable[..., Any]:
    step = functools.partial(train_step, phase=phase, model=model, train=train)
    return jax.jit(step, donate_argnums=0)


@functools.lru_cache(maxsize=8)
def _jitted_bring_up_to_date(train: TrainConfig) -> Callable[[TrainState], TrainState]:
    return jax.jit(functools.partial(bring_up_to_date, train=train), donate_argnums=0)
