"""What a compact table saves: bytes in memory and on disk, time of the lookup and of the forward.

    python -m experiments.benchmarks.serving --json=FILE [--rows=1000000,5000000]

A model of 39 fields whose sizes fall off as in click logs, D = 64, MLP [1024, 512, 256], batches
of 2,048 rows. The full model applies its masks; the compact one is the bundle as it was loaded
from disk. Both take turns in one process; figures are medians. Weights are random: they do not
change what anything costs.

Beside them the first of the tables as onnxruntime, PyTorch and FBGEMM serve it, each in a process
of its own, see ``runtimes``.
"""

import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import json_file, runtimes
from experiments.benchmarks.click_log import fields_of
from experiments.benchmarks.kept_shape import DIM, drawn_kept, shares
from experiments.run import cli
from experiments.run.alternating import alternate
from optembed_jax.fields import Fields
from optembed_jax.models.forward import embed, forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact, tree_bytes
from optembed_jax.table.compact import lookup

_ROWS = flags.DEFINE_list("rows", ["1000000", "5000000"], "Rows of the table, V.")
_KEEP = flags.DEFINE_list("keep", ["0.3:0.41", "0.1:0.41", "0.5:0.5"], "Shares rows:columns.")
_MODELS = flags.DEFINE_list("models", ["deepfm"], "Backbones, each with the first --keep.")
_REPEATS = flags.DEFINE_integer("repeats", 15, "Timed turns of each.", lower_bound=3)

BATCH = 2048


def measure(model: str, rows: int, keep: float, columns: float, repeats: int) -> dict[str, Any]:
    """All figures of one table."""
    rng = np.random.default_rng(0)
    fields = fields_of(rows)
    config = ModelConfig(model=model, latent_dim=DIM)
    params, batch_stats = init_params(jax.random.key(0), config, fields)
    mask, dims = drawn_kept(fields, keep, columns, rng)
    small, index = compact(config, params, fields, mask, dims)
    draws = [offset + rng.integers(0, size, BATCH) for offset, size in _blocks(fields)]
    ids = np.stack(draws, axis=1).astype(np.int32)
    reading = Selection(rows=jnp.asarray(mask), dims=jnp.asarray(dims))
    full_forward = jax.jit(lambda p, i: forward(config, p, batch_stats, i, reading)[0])
    full_lookup = jax.jit(lambda p, i: embed(config, p, i, reading))
    small_lookup = jax.jit(lookup)
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(
            pathlib.Path(folder) / "bundle", config, small, batch_stats, index, fields
        )
        disk = sum(file.stat().st_size for file in bundle.path.iterdir())
    error = np.abs(bundle.logits(ids) - np.asarray(full_forward(params, ids))).max()
    times = alternate(
        {
            "full_forward_ms": lambda: full_forward(params, ids),
            "compact_forward_ms": lambda: bundle.logits(ids),
            "full_lookup_ms": lambda: full_lookup(params, ids),
            "compact_lookup_ms": lambda: small_lookup(small.table, index, ids),
        },
        repeats,
    )
    count = bundle.manifest["bytes"]
    needed = sum(count[part] for part in ("rows", "linear", "remap", "network"))
    return {
        "model": model,
        "rows": rows,
        "rows_kept": int(mask.sum()),
        "columns_kept": round(float(dims.mean()) / DIM, 4),
        **{name: round(value, 2) for name, value in times.items()},
        "forward_speedup": round(times["full_forward_ms"] / times["compact_forward_ms"], 3),
        "lookup_speedup": round(times["full_lookup_ms"] / times["compact_lookup_ms"], 3),
        "full_table_bytes": tree_bytes(params.table.rows),
        "full_bytes": tree_bytes((params.table, params.network, batch_stats)),
        "compact_rows_bytes": count["rows"],
        "compact_rows_padded_bytes": count["rows_padded"],
        "compact_remap_bytes": count["remap"],
        "compact_bytes": bundle.nbytes,
        "disk_bytes": disk,
        "bytes_over_parameters": round(disk / needed, 4),
        "largest_difference": float(error),
    }


def _blocks(fields: Fields) -> list[tuple[int, int]]:
    return list(zip(fields.offsets.tolist(), fields.sizes, strict=True))


def main() -> None:
    """Measure every table, print a line for each, write the JSON."""
    kept = [shares(text) for text in _KEEP.value]
    found = []
    for model in _MODELS.value:
        for rows in map(int, _ROWS.value):
            for keep, columns in kept if model == _MODELS.value[0] else kept[:1]:
                found.append(measure(model, rows, keep, columns, _REPEATS.value))
                print(_line(found[-1]), flush=True)
    others = [
        runtimes.measure(_MODELS.value[0], int(_ROWS.value[0]), *kept[0], storage, _REPEATS.value)
        for storage in ("float32", "int8")
    ]
    for figures in others:
        print("  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)
    headline = found[0]
    written = {
        "forward_speedup": headline["forward_speedup"],
        "bytes_over_parameters": max(figures["bytes_over_parameters"] for figures in found),
        **runtimes.headline(others),
        **json_file.machine(),
        "tables": found,
        "runtimes": others,
    }
    json_file.write(written)


def _line(figures: dict[str, Any]) -> str:
    return (
        f"{figures['model']:<7} V {figures['rows']:>9,}  "
        f"kept {figures['rows_kept'] / figures['rows']:.0%} x {figures['columns_kept']:.0%}  "
        f"forward {figures['full_forward_ms']:6.1f} -> {figures['compact_forward_ms']:6.1f} ms "
        f"({figures['forward_speedup']:.2f}x)  "
        f"lookup {figures['full_lookup_ms']:5.1f} -> {figures['compact_lookup_ms']:5.1f} ms  "
        f"memory {figures['full_bytes'] / 1e6:,.0f} -> {figures['compact_bytes'] / 1e6:,.1f} MB  "
        f"disk {figures['disk_bytes'] / 1e6:,.1f} MB "
        f"({figures['bytes_over_parameters']:.3f} of need)"
    )


if __name__ == "__main__":
    cli.run(main, goes_on=False)
