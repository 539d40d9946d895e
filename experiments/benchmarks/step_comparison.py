"""The sides of ``training_step``: what each is, a process for each, turns, and ratios.

Apart from the main, which has the flags.
"""

import dataclasses
import functools
import importlib.util
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.backbones import backbones
from experiments.benchmarks.click_log import FEWEST_ROWS, NUM_FIELDS, fields_of, zipf_batches
from optembed_jax.errors import InputError
from optembed_jax.models.forward import Selection
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.table_step import read_table
from optembed_jax.step.table_update import Setup
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase, train_selection, train_step

DIM, MLP_DIMS, BATCH, SMALL, WARM_UP = 64, (1024, 512, 256), 2048, 10_000, 3


@dataclasses.dataclass(frozen=True)
class Side:
    """Something to be timed, in a process of its own.

    Attributes:
      kind: ``ours``, ``dense`` (Optax), ``torch``, or the embedding part of the first two.
      model: backbone.
      rows: of the table.
      row_decay: of our side.
    """

    kind: str
    model: str
    rows: int
    row_decay: str

    @property
    def train(self) -> TrainConfig:
        """Settings of the optimisers, the reference's for DeepFM on Criteo roughly."""
        if self.kind in ("dense", "dense_embedding"):
            return TrainConfig(row_decay="l2_coupled", table_update="dense")
        return TrainConfig(row_decay=self.row_decay)


def make_step(side: Side) -> Callable[[np.ndarray, np.ndarray], Any]:
    """A function that takes a step on a batch and waits for it."""
    if side.kind == "torch":
        from experiments.benchmarks import torch_supernet

        config = side.train
        return torch_supernet.make_step(
            side.rows, NUM_FIELDS, DIM, MLP_DIMS,
            lr=config.lr, l2=config.l2, t_lr=config.t_lr, alpha=config.alpha,
        )  # fmt: skip
    fields = fields_of(side.rows)
    model = ModelConfig(model=side.model, latent_dim=DIM, mlp_dims=MLP_DIMS)
    make = functools.partial(init_state, model=model, train=side.train, fields=fields)
    # Not jitted: the table is drawn before the moments are there, and a smaller peak is enough.
    holder = [make(jax.random.key(0))]
    is_part = side.kind.endswith("embedding")
    step = functools.partial(embedding_step if is_part else full_step, model=model)
    jitted = jax.jit(functools.partial(step, train=side.train), donate_argnums=0)

    def take(ids: np.ndarray, labels: np.ndarray) -> None:
        holder[0] = jax.block_until_ready(jitted(holder[0], ids, labels))

    return take


def full_step(state: Any, ids: jax.Array, labels: jax.Array, model: Any, train: Any) -> Any:
    """The supernet's step."""
    done, _ = train_step(
        state, ids, labels, Selection(), phase=Phase.SUPERNET, model=model, train=train
    )
    return done


def embedding_step(state: Any, ids: jax.Array, labels: jax.Array, model: Any, train: Any) -> Any:
    """The same, of table and thresholds alone: the loss is half the square of what is read.

    Its gradient is what is read. No network costs less, and XLA cannot leave the reading out.
    """
    del labels
    key = jax.random.fold_in(state.key, state.step)
    reading = train_selection(Phase.SUPERNET, model, key, ids.shape, Selection(), None)
    read = read_table(state, model, reading, ids, Setup(train))

    def loss_of(given: Any) -> jax.Array:
        squares = [jnp.sum(jnp.square(part)) for part in jax.tree.leaves(read.embedded(given))]
        return jnp.sum(jnp.stack(squares)) / 2

    after = read.step(jax.grad(loss_of)(read.given))
    thresholds = state.params.thresholds - train.t_lr * after.thresholds
    params = dataclasses.replace(state.params, table=after.table, thresholds=thresholds)
    opt_state = (after.state, *state.opt_state[1:])
    return dataclasses.replace(state, step=state.step + 1, params=params, opt_state=opt_state)


def work(side: Side, connection: Connection) -> None:
    """A process: the steps that a message asks for, answered by their milliseconds.

    Asked for none, it answers by its peak memory, and ends.
    """
    batches = zipf_batches(fields_of(side.rows), BATCH, 8)
    step, taken = make_step(side), 0
    while steps := connection.recv():
        milliseconds = []
        for _ in range(steps):
            started = time.perf_counter()
            step(*batches[taken % len(batches)])
            milliseconds.append(1000 * (time.perf_counter() - started))
            taken += 1
        connection.send(milliseconds)
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def alternate(sides: dict[str, Side], repeats: int, steps: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of a step and peak bytes of each side, taking turns of some steps.

    Of turns of more than one step the first is not counted.
    """
    # On a GPU the first process would take most of the memory at once and leave the others little.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    processes = []
    for name, side in sides.items():
        ours, theirs = spawn.Pipe()
        processes.append(spawn.Process(target=work, args=(side, theirs), daemon=True))
        processes[-1].start()
        theirs.close()
        pipes[name] = ours
    for turn in range(repeats + WARM_UP):
        for name, pipe in pipes.items():
            pipe.send(steps)
            milliseconds = pipe.recv()
            if turn >= WARM_UP:
                taken[name] += milliseconds[min(1, steps - 1) :]
    found = {}
    for name, pipe in pipes.items():
        pipe.send(0)
        found[name] = {"ms": round(statistics.median(taken[name]), 2), "peak_bytes": pipe.recv()}
    for process in processes:
        process.join()
    return found


def measure(
    model: str, rows: int, decay: str, sides: list[str], repeats: int, steps: int
) -> dict[str, Any]:
    """All figures of one table."""
    take_turns = functools.partial(alternate, repeats=repeats, steps=steps)
    side = functools.partial(Side, model=model, row_decay=decay)
    wanted = {"ours": side("ours", rows=rows)}
    # Not all at once: at five million rows they would need more memory than small machines have.
    # And who comes after PyTorch finds caches and memory as gigabytes left them: of three sides in
    # turn, the same one would always pay for that. A ratio is taken of two that took turns.
    found: dict[str, dict[str, float]] = {}
    if "torch" in sides and model == "deepfm":
        wanted["torch"] = side("torch", rows=rows)
    found |= take_turns(wanted)
    if rows != SMALL:
        beside = {"ours_beside_10k": wanted["ours"], "ours_10k": side("ours", rows=SMALL)}
        found |= take_turns(beside)
    if "dense" in sides:
        beside = {"ours_beside_dense": wanted["ours"], "dense": side("dense", rows=rows)}
        found |= take_turns(beside)
    if "embedding" in sides:
        parts = {
            "embedding": side("ours_embedding", rows=rows),
            "dense_embedding": side("dense_embedding", rows=rows),
        }
        found |= take_turns(parts)
    figures: dict[str, Any] = {"model": model, "rows": rows, "row_decay": decay}
    for name, of_side in found.items():
        figures[f"{name}_ms"], figures[f"{name}_peak_bytes"] = of_side["ms"], of_side["peak_bytes"]
    return figures | ratios(figures)


def ratios(figures: dict[str, Any]) -> dict[str, float]:
    """What the figures come to, as far as both sides of a ratio were measured."""
    return {
        name: round(figures[over] / figures[under], 3)
        for name, over, under in (
            ("step_speedup", "torch_ms", "ours_ms"),
            ("embedding_speedup", "dense_embedding_ms", "embedding_ms"),
            ("growth_from_10k", "ours_beside_10k_ms", "ours_10k_ms"),
            ("memory_ratio", "ours_peak_bytes", "torch_peak_bytes"),
        )
        if over in figures and under in figures
    }


def installed(sides: list[str]) -> list[str]:
    """The sides without PyTorch, and a line that says so, where it is not installed."""
    if "torch" not in sides or importlib.util.find_spec("torch") is not None:
        return sides
    print("PyTorch is not installed, and left out: pip install 'optembed-jax[bench]'")
    return [name for name in sides if name != "torch"]


def asked(models: list[str], rows: list[str]) -> list[tuple[str, int]]:
    """Models and tables to measure, as flags name them.

    Raises:
      InputError: there is no such model, or a number of rows that no click log has.
    """
    models = backbones(models)
    if any(not text.isdigit() or int(text) < FEWEST_ROWS for text in rows):
        raise InputError(f"--rows={','.join(rows)}: numbers from {FEWEST_ROWS} up")
    return [(model, int(text)) for model in models for text in rows]


def line_of(figures: dict[str, Any]) -> str:
    """A line of the table; a dash for what was not measured."""

    def shown(key: str, form: str) -> str:
        return format(figures[key], form) if key in figures else "-"

    return (
        f"{figures['model']:<7} V {figures['rows']:>9,} {figures['row_decay']}: "
        f"ours {shown('ours_ms', '.0f')} ms, torch {shown('torch_ms', '.0f')} "
        f"({shown('step_speedup', '.2f')}x); ours {shown('ours_beside_dense_ms', '.0f')}, "
        f"dense Optax {shown('dense_ms', '.0f')}; "
        f"embedding {shown('embedding_ms', '.0f')}, dense {shown('dense_embedding_ms', '.0f')} "
        f"({shown('embedding_speedup', '.2f')}x); growth {shown('growth_from_10k', '.2f')}; "
        f"memory {shown('memory_ratio', '.2f')}"
    )
