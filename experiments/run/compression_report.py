"""What an export tells of a bundle: its size and speed against the full model."""

from typing import Any

import jax
import numpy as np

from experiments.run.alternating import alternate
from experiments.run.trained import Run, Trained
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.compact_model import tree_bytes

_BATCH = 2048


def against_full(
    run: Run,
    model: ModelConfig,
    trained: Trained,
    bundle: Bundle,
    ids: tuple[np.ndarray, np.ndarray],
    disk: int,
) -> str:
    """Size and speed of a bundle against the full model with its masks, as a table.

    Args:
      run: that the model is of.
      model: of the phase that was exported.
      trained: the full model.
      bundle: of it, loaded.
      ids: int32 ``[N, S]`` of the same rows, for the full model and for the bundle.
      disk: bytes of the bundle's folder.
    """
    batch, own = (np.resize(of_model, (_BATCH, of_model.shape[1])) for of_model in ids)
    reading = trained.kept.read_by(model, run.prepared.fields)
    step = jax.jit(lambda params, ids: forward(model, params, trained.batch_stats, ids, reading)[0])
    times = alternate(
        {"full": lambda: step(trained.params, batch), "compact": lambda: bundle.logits(own)}, 20
    )
    table = trained.params.table
    full = tree_bytes((table, trained.params.network, trained.batch_stats))
    size = bundle.manifest["bytes"]
    lines = [
        ("", "full, masked", "compact", "ratio"),
        ("table rows, bytes", tree_bytes(table.rows), size["rows"], ""),
        *_on_sparse_cores(run, bundle),
        ("model in memory, bytes", full, bundle.nbytes, ""),
        ("on disk with vocabulary, bytes", "", disk, ""),
        (f"forward of {_BATCH:,} rows, ms", times["full"], times["compact"], ""),
    ]
    return "\n".join(_line(*line) for line in lines)


def _on_sparse_cores(run: Run, bundle: Bundle) -> list[tuple[str, int, int, str]]:
    """What the tables take on the chips of --pad_for, where it is given."""
    options, fields = run.settings.search_options, run.prepared.fields
    if options.topology is None:
        return []
    full = [run.settings.model.latent_dim] * fields.num_fields
    return [
        (
            f"on {options.pad_for}, bytes",
            options.topology.padded_bytes(fields.sizes, full),
            bundle.manifest["bytes"]["rows_padded"],
            "",
        )
    ]


def _line(name: str, full: Any, small: Any, ratio: str) -> str:
    if not isinstance(full, str):
        ratio = f"{full / small:.2f}x" if small else "-"
    shown = [
        f"{v:,.2f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v
        for v in (full, small)
    ]
    return f"{name:<32}{shown[0]:>16}{shown[1]:>16}{ratio:>9}"
