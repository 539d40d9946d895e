"""Whether an accelerator is used well: one script that fits in eight minutes before a GPU.

    python -m experiments.benchmarks.accelerator --json=FILE

On a GPU or TPU all parts run, at the sizes below. Without one only ``programs`` does, unless
``--parts`` asks for more, which want small sizes then. A part, and of ``step`` a size, that would
begin after ``--seconds`` is left out, and the JSON says which (``left_out``).

- ``programs``: what steps and forward passes ask for, counted in the programs lowered for cuda and
  tpu (``lowered_programs``). No device is needed.
- ``seed``: two processes of one seed, compared bit for bit, with and without XLA's fixed order.
- ``forward``: the compact model, as a bundle serves it, against the full one with its masks: a
  table of which 30 % of the rows and 41 % of the columns are kept.
- ``step``: our sparse and dense rules and dense Optax, taking turns; ``auto_over_best`` is what
  ``table_update=auto`` chooses over the best of the three.
- ``search``: candidates per second, of one generation.

Keys of the JSON: ``platform``, ``device``, ``programs``, ``one_seed``, ``forward_speedup``,
``auto_over_best``, ``candidates_per_second``, ``peak_bytes``, ``seconds``, and what each part
found. Only what runs on a device is a measurement; ``programs`` are counts.
"""

import dataclasses
import functools
import os
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import json_file, one_seed
from experiments.benchmarks.click_log import FEWEST_ROWS, fields_of, zipf_batches
from experiments.benchmarks.kept_shape import drawn_kept
from experiments.benchmarks.lowered_programs import counted
from experiments.benchmarks.search import generation, ours
from experiments.benchmarks.search_supernets import Size, drawn_supernet
from experiments.benchmarks.step_comparison import full_step
from experiments.run import cli
from experiments.run.alternating import alternate
from optembed_jax.errors import InputError
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.forward_module import build_forward
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.table import stand_in
from optembed_jax.table.compact import with_own_ids
from optembed_jax.table.device_form import updates_sparsely

PARTS = ("programs", "seed", "forward", "step", "search")
_PARTS = flags.DEFINE_list("parts", None, f"Of {', '.join(PARTS)}; None: see above.")
_SECONDS = flags.DEFINE_integer("seconds", 420, "No part begins later.", lower_bound=0)
_ROWS = flags.DEFINE_integer("served_rows", 1_000_000, "Of the table that is served.")
_STEP_ROWS = flags.DEFINE_list("step_rows", ["100000", "1000000", "5000000"], "Of those trained.")
_PROGRAM_ROWS = flags.DEFINE_integer("program_rows", 100_000, "Of those that programs are of.")
_BATCH = flags.DEFINE_integer("batch", 2048, "Rows of a batch.", lower_bound=1)
_VALIDATION = flags.DEFINE_integer("validation_rows", 8192, "That candidates are scored on.")
_DIM = flags.DEFINE_integer("embedding_dim", 64, "D.", lower_bound=1)
_MLP_DIMS = flags.DEFINE_list("mlp", ["1024", "512", "256"], "Of the perceptron.")
_TURNS = flags.DEFINE_integer("timed_turns", 30, "Timed turns of each side.", lower_bound=1)

KEEP, COLUMNS = 0.3, 0.41
SIDES = {
    "sparse": TrainConfig(row_decay="group_lasso", table_update="sparse"),
    "dense": TrainConfig(row_decay="group_lasso", table_update="dense"),
    "optax": TrainConfig(row_decay="l2_coupled", table_update="dense"),
}
"""Ways to update a table."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the measured things are.

    Attributes:
      batch: rows of a batch.
      dim: ``D``.
      mlp_dims: of the perceptron.
    """

    batch: int
    dim: int
    mlp_dims: tuple[int, ...]

    @property
    def model(self) -> ModelConfig:
        """DeepFM."""
        return ModelConfig("deepfm", self.dim, self.mlp_dims)


@dataclasses.dataclass(frozen=True)
class Forms:
    """A model in two forms: jitted functions with what they are given, of the same examples.

    Attributes:
      masked: the full table under its masks.
      compact: what a bundle computes.
    """

    masked: functools.partial[jax.Array]
    compact: functools.partial[jax.Array]


def forms_of(scale: Scale, rows: int) -> Forms:
    """A model of random weights, of which ``KEEP`` of the rows and ``COLUMNS`` are kept.

    As the commands make it by default: what is pruned reads its field's stand-in, and the compact
    form has ids of its own.
    """
    rng, fields = np.random.default_rng(0), fields_of(rows)
    config = dataclasses.replace(scale.model, mode_oov="shared", mode_linear="prune")
    params, batch_stats = init_params(jax.random.key(0), config, fields)
    mask, dims = drawn_kept(fields, KEEP, COLUMNS, rng, scale.dim, stand_ins=True)
    table = stand_in.cut(params.table, fields, np.ones(rows, int), mask, prunes_linear=True)
    params = dataclasses.replace(params, table=table)
    (ids, _), *_ = zipf_batches(fields, scale.batch, 1)
    small, index = compact(config, params, fields, mask, dims)
    index, fields, new_ids = with_own_ids(index, fields.names)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bundle"
        bundle = write_bundle(path, config, small, batch_stats, index, fields)
    described, by_id = bundle.manifest["fields"], bundle.manifest["linear_by_id"]
    served = jax.jit(build_forward(config, described, by_id))
    reading = Selection(dims=jnp.asarray(dims))
    full = jax.jit(lambda p, stats, reads, ids: forward(config, p, stats, ids, reads)[0])
    return Forms(
        functools.partial(full, params, batch_stats, reading, jnp.asarray(ids)),
        functools.partial(served, dict(bundle.weights), jnp.asarray(new_ids[ids])),
    )


def programs(scale: Scale, rows: int) -> list[dict[str, Any]]:
    """Counts of each program on cuda and tpu."""
    fields, forms = fields_of(rows), forms_of(scale, rows)
    ids = jax.ShapeDtypeStruct((scale.batch, fields.num_fields), jnp.int32)
    labels = jax.ShapeDtypeStruct((scale.batch,), jnp.float32)
    found = []
    for platform, device in (("cuda", "NVIDIA H200"), ("tpu", "TPU v5 lite")):
        asked: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            "masked forward": (forms.masked.func, forms.masked.args),
            "compact forward": (forms.compact.func, forms.compact.args),
        }
        for name, side in SIDES.items():
            train = dataclasses.replace(side, device=device)
            make = functools.partial(init_state, model=scale.model, train=train, fields=fields)
            state = jax.eval_shape(make, jax.random.key(0))
            step = functools.partial(full_step, model=scale.model, train=train)
            asked[f"{name} step"] = (step, (state, ids, labels))
        found += [
            {"program": name, "platform": platform, "rows": rows}
            | counted(function, *arguments, platform=platform).as_record()
            for name, (function, arguments) in asked.items()
        ]
    return found


def measure_forward(scale: Scale, rows: int, repeats: int) -> dict[str, Any]:
    """Median milliseconds of both forms, and how far their logits are apart."""
    forms = forms_of(scale, rows)
    difference = np.abs(np.asarray(forms.masked()) - np.asarray(forms.compact()))
    times = alternate({"masked_ms": forms.masked, "compact_ms": forms.compact}, repeats)
    return {
        "rows": rows,
        **{name: round(value, 4) for name, value in times.items()},
        "speedup": round(times["masked_ms"] / times["compact_ms"], 3),
        "largest_difference": float(difference.max()),
    }


def measure_step(scale: Scale, rows: int, repeats: int) -> dict[str, Any]:
    """Median milliseconds of a supernet's step by each way, and what ``auto`` chooses."""
    fields = fields_of(rows)
    batches = [tuple(map(jnp.asarray, batch)) for batch in zipf_batches(fields, scale.batch, 4)]
    turns = {name: _stepping(scale, fields, train, batches) for name, train in SIDES.items()}
    times = alternate(turns, repeats)
    numbers = rows * (scale.dim + 1)  # DeepFM's linear weights among them.
    auto = "sparse" if updates_sparsely("auto", rows, numbers, None) else "dense"
    return {
        "rows": rows,
        **{f"{name}_ms": round(value, 3) for name, value in times.items()},
        "auto": auto,
        "auto_over_best": round(times[auto] / min(times.values()), 3),
    }


def _stepping(
    scale: Scale, fields: Any, train: TrainConfig, batches: Sequence[Any]
) -> Callable[[], Any]:
    model = scale.model
    held = [init_state(jax.random.key(0), model, train, fields)]
    step = jax.jit(functools.partial(full_step, model=model, train=train), donate_argnums=0)
    turn = [0]

    def take() -> Any:
        turn[0] += 1
        held[0] = step(held[0], *batches[turn[0] % len(batches)])
        return held[0].step

    return take


def measure_search(scale: Scale, rows: int, validation_rows: int, repeats: int) -> dict[str, Any]:
    """Candidates per second of a middle generation."""
    size = Size(rows, validation_rows, scale.dim, scale.mlp_dims)
    net, candidates = drawn_supernet(size, "deepfm"), generation(size.space(None), 15)
    fitness = ours(net)
    taken = alternate({"generation": lambda: fitness(candidates)}, repeats, untimed=1)
    return {
        "validation_rows": validation_rows,
        "candidates": len(candidates),
        "candidates_per_second": round(1000 * len(candidates) / taken["generation"], 2),
    }


def peak_bytes() -> dict[str, Any]:
    """Of the device since the process began, where it tells; of this process on the host."""
    told = jax.local_devices()[0].memory_stats() or {}
    on_host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"device": told.get("peak_bytes_in_use"), "host": on_host}


def main() -> None:
    """Run the parts while there is time, print a line for each figure, write the JSON."""
    # Before a device is asked for: the processes of one seed need memory on it, too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    started, platform = time.monotonic(), jax.default_backend()
    asked = _PARTS.value or (["programs"] if platform == "cpu" else list(PARTS))
    if unknown := [name for name in asked if name not in PARTS]:
        raise InputError(f"--parts={unknown[0]}: must be of {', '.join(PARTS)}")
    for name, rows in (("served_rows", [_ROWS.value]), ("step_rows", _STEP_ROWS.value)):
        if any(not str(own).isdigit() or int(own) < FEWEST_ROWS for own in rows):
            raise InputError(f"--{name}={','.join(map(str, rows))}: numbers from {FEWEST_ROWS} up")
    scale = Scale(_BATCH.value, _DIM.value, tuple(map(int, _MLP_DIMS.value)))
    written: dict[str, Any] = {
        **json_file.machine(),
        "platform": platform,
        "device": jax.devices()[0].device_kind,
        "left_out": [],
    }
    steps = {
        f"step of {rows} rows": functools.partial(_step, scale, int(rows))
        for rows in _STEP_ROWS.value
    }
    jobs_of: Mapping[str, Mapping[str, Callable[[], dict[str, Any]]]] = {
        "programs": {"programs": lambda: {"programs": programs(scale, _PROGRAM_ROWS.value)}},
        "seed": {"seed": lambda: {"one_seed": _one_seed(scale)}},
        "forward": {"forward": lambda: _forward(scale)},
        "step": steps,
        "search": {"search": lambda: _search(scale)},
    }
    for name, job in (one for part in PARTS if part in asked for one in jobs_of[part].items()):
        if time.monotonic() - started >= _SECONDS.value:
            written["left_out"].append(name)
            continue
        found = job()
        written = _with(written, found)
        for line in _lines(found):
            print(line, flush=True)
        written |= {"peak_bytes": peak_bytes(), "seconds": round(time.monotonic() - started, 1)}
        json_file.write(written)  # Whatever ends it early, what was measured is there.
    json_file.write(written)


def _one_seed(scale: Scale) -> dict[str, Any]:
    job = {
        "rows": min(_ROWS.value, 200_000),
        "steps": 50,
        "batch": scale.batch,
        "dim": scale.dim,
        "mlp_dims": list(scale.mlp_dims),
    }
    return {
        "plain": one_seed.compare(job, ordered=False),
        "deterministic": one_seed.compare(job, ordered=True),
    }


def _forward(scale: Scale) -> dict[str, Any]:
    found = measure_forward(scale, _ROWS.value, _TURNS.value)
    return {"forward_speedup": found["speedup"], "forward": found}


def _step(scale: Scale, rows: int) -> dict[str, Any]:
    found = measure_step(scale, rows, _TURNS.value)
    return {"auto_over_best": found["auto_over_best"], "step": [found]}


def _with(written: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What was written, and what was found: of the step's sizes all, and the worst choice."""
    joined = written | found
    if "step" in written and "step" in found:
        joined["step"] = written["step"] + found["step"]
        joined["auto_over_best"] = max(written["auto_over_best"], found["auto_over_best"])
    return joined


def _search(scale: Scale) -> dict[str, Any]:
    rows = min(_ROWS.value, 100_000)
    found = measure_search(scale, rows, _VALIDATION.value, max(_TURNS.value // 10, 1))
    return {"candidates_per_second": found["candidates_per_second"], "search": found}


def _lines(found: Mapping[str, Any]) -> list[str]:
    """A line for each thing that a part found."""
    lines = []
    for name, value in found.items():
        records = value if isinstance(value, list) else [value]
        for record in records:
            told = record.items() if isinstance(record, dict) else [("", record)]
            lines.append(f"{name:<22}" + "  ".join(f"{key} {own}".strip() for key, own in told))
    return lines


if __name__ == "__main__":
    cli.run(main, goes_on=False)
