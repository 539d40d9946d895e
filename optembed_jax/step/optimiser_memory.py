"""What all optimisers of a training state remember, laid out by the full model.

Put by when training ends (:func:`remembered`), carried over by who knows the vocabularies, and
taken up before another training begins (:func:`recalled`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import traverse_util

from optembed_jax.method.embedding import Table
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import TrainState
from optembed_jax.table.memory import RowMemory, StackRows, cut_to_stack, put_back


@dataclasses.dataclass(frozen=True)
class OptimiserMemory:
    """Moments and counts of a full model, on the host.

    Attributes:
      steps: taken so far, by which moments are corrected for their start.
      rows: of the table.
      network: first and second moments of the network, ``mu`` and ``nu``, each in its structure.
    """

    steps: int
    rows: RowMemory
    network: Mapping[str, Any]

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Named arrays, to be written to a file."""
        network = traverse_util.flatten_dict({"network": self.network}, sep="/")
        arrays = {name: np.asarray(array) for name, array in network.items()}
        return {"steps": np.array([self.steps]), **self.rows.as_arrays(), **arrays}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "OptimiserMemory":
        """Of what :meth:`as_arrays` gave."""
        of_network = {k: v for k, v in arrays.items() if k.startswith("network/")}
        network = traverse_util.unflatten_dict(of_network, sep="/")["network"]
        return cls(int(arrays["steps"][0]), RowMemory.from_arrays(arrays), network)


def remembered(
    opt_state: Any, steps: int, places: Sequence[StackRows], like: Table
) -> OptimiserMemory:
    """The memory of a state's optimisers, its rows up to date.

    Rows that are not trained have zeros; the network's is as that is trained, also where a compact
    one is a part of the full one.

    Args:
      opt_state: of ``TrainState``, on the host.
      steps: taken.
      places: which rows of the full table each stack has.
      like: the full table; only its shapes matter.
    """
    rows = put_back([stack.memory for stack in opt_state[0].stacks], places, like)
    get = optax.tree_utils.tree_get
    return OptimiserMemory(
        steps=int(steps),
        rows=rows,
        network={name: get(opt_state[2], name) for name in ("mu", "nu")},
    )


def recalled(shapes: TrainState, memory: OptimiserMemory, places: Sequence[StackRows]) -> Any:
    """The optimisers' states before the first step, with a memory in them, on the host.

    Args:
      shapes: of the state (``jax.eval_shape``).
      memory: of the full table, by the same rule; the network's as that is to be trained.
      places: which rows of the full table each stack has.

    """
    stacks = []
    for own, at in zip(shapes.opt_state[0].stacks, places, strict=True):
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), own)
        stacks.append(zeros.with_memory(cut_to_stack(memory.rows, at, own.memory), memory.steps))
    network = optax.tree_utils.tree_set(
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.opt_state[2]),
        mu=memory.network["mu"],
        nu=memory.network["nu"],
        count=np.array(memory.steps, np.int32),
    )
    table = shapes.opt_state[0].with_stacks(tuple(stacks))
    thresholds = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.opt_state[1])
    return (table, thresholds, network)


def taken_up(state: TrainState, opt_state: Any, steps: int, *, train: TrainConfig) -> TrainState:
    """A state before its first step that goes on with a memory.

    Args:
      state: where the steps have it.
      opt_state: of :func:`recalled`, put there.
      steps: that the memory is of.
      train: the optimiser settings.
    """
    step = jax.device_put(np.int32(steps), state.step.sharding)
    table = state.params.table
    stacks = tuple(
        own.owing(stack, state.lr_scale, train)
        for stack, own in zip(table.stacks, opt_state[0].stacks, strict=True)
    )
    return dataclasses.replace(
        state, step=step, opt_state=(table.with_stacks(stacks), *opt_state[1:])
    )
