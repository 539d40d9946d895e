"""Export the model of a finished run as a bundle: small, verified, ready to serve.

    python -m experiments.export --workdir=DIR --bundle=OUT [--storage=int8]

All other flags are taken from the run.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.csv
from absl import flags
from etils import epath

from experiments.run import cli, runs
from experiments.run import flags as project_flags
from experiments.run.alternating import alternate
from experiments.run.phases import phases_of
from experiments.run.trained import Run, Trained, load_trained, model_of
from optembed_jax import data, metrics
from optembed_jax.data.options import PATH_OPTIONS
from optembed_jax.data.prepared import encoder_of
from optembed_jax.errors import InputError
from optembed_jax.models.forward import Params, forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import SUMS
from optembed_jax.serving.bundle_writer import Provenance, write_bundle
from optembed_jax.serving.compact_model import compact, tree_bytes
from optembed_jax.step.train_step import Phase
from optembed_jax.storage.object_store import delivered, in_file_system, path_of
from optembed_jax.table.compact import quantize_table
from optembed_jax.training.prediction import predict

flags.adopt_module_key_flags(project_flags)

BATCH = 2048
CHECKED_ROWS = 4 * BATCH
SAMPLE_ROWS = 1000


def main() -> None:
    """Load the run's last phase, compact it, write and verify the bundle, compare with the full."""
    workdir = project_flags.workdir()
    target = path_of(project_flags.required(project_flags.BUNDLE))
    summary = _summary_of(workdir)
    project_flags.adopt(summary["flags"])
    run = runs.open_run()
    phase = phases_of(run.settings.model.mode)[-1]
    result = run.workdir.require(phase, "export")
    model = model_of(phase, run.settings.model)
    trained = load_trained(run, phase)
    fields = run.prepared.fields
    small, index = compact(model, trained.params, fields, *trained.pruned(model))
    recorded = {k: v for k, v in result.items() if k.endswith(("_auc", "_logloss", "_calibration"))}

    def validate(params: Params) -> tuple[np.ndarray, np.ndarray]:
        reader = data.Reader(run.prepared, "validation", BATCH, shuffle=False, remainder="pad")
        return predict(params, trained.batch_stats, reader, index, phase=Phase.RETRAIN, model=model)

    if project_flags.STORAGE.value != "float32":
        small, change = _quantised(small, lambda params: metrics.auc(*validate(params)))
        recorded |= change
    _, live = validate(small)
    ids, _ = run.prepared.arrays("validation")
    with delivered(target, SUMS) as folder:
        bundle = write_bundle(
            folder,
            model,
            small,
            trained.batch_stats,
            index,
            fields,
            encoder=encoder_of(run.prepared),
            provenance=Provenance(
                {"name": run.settings.dataset, "fingerprint": run.prepared.fingerprint},
                recorded,
                summary["flags"],
            ),
            check=(ids[:CHECKED_ROWS], live[:CHECKED_ROWS]),
        )
        disk = sum(file.stat().st_size for file in folder.iterdir())
    run.progress.say(
        f"bundle  {target}  gives the live model's logits on {len(ids[:CHECKED_ROWS]):,} rows"
    )
    test_ids, test_labels = run.prepared.arrays("test")
    found = metrics.auc(test_labels, bundle.logits(test_ids))
    print(f"test AUC  retrained model {result['test_auc']:.6f}  loaded bundle {found:.6f}")
    print(_comparison(run, model, trained, bundle, ids, disk))
    if project_flags.SAMPLE.value:
        rows = _write_sample(run, in_file_system(project_flags.SAMPLE.value, "--sample"))
        run.progress.say(f"sample  {rows:,} raw rows in {project_flags.SAMPLE.value}")


def _summary_of(workdir: epath.Path) -> dict[str, Any]:
    path = workdir / "summary.json"
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"no finished run in {workdir}: {path.name} cannot be read; run "
            "`python -m experiments.pipeline` with this --workdir first"
        ) from error
    return summary


def _quantised(small: Params, auc_of: Callable[[Params], float]) -> tuple[Params, dict[str, float]]:
    """The model in the storage of the flags, and its validation AUC before and after.

    Raises:
      InputError: it drops too much.
    """
    storage, allowed = project_flags.STORAGE.value, project_flags.MAX_AUC_DROP.value
    quantised = dataclasses.replace(small, table=quantize_table(small.table, storage))
    before, after = auc_of(small), auc_of(quantised)
    print(
        f"validation AUC  float32 {before:.6f}  {storage} {after:.6f}  change {after - before:+.6f}"
    )
    if before - after > allowed:
        raise InputError(
            f"--storage={storage} costs {before - after:.6f} of validation AUC, more than "
            f"--max_auc_drop={allowed}; nothing was written"
        )
    return quantised, {"val_auc_float32": before, "val_auc_stored": after}


def _comparison(
    run: Run, model: ModelConfig, trained: Trained, bundle: Bundle, ids: np.ndarray, disk: int
) -> str:
    """Size and speed of the bundle against the full model with its masks; ``disk`` in bytes."""
    batch = np.resize(ids, (BATCH, ids.shape[1]))
    step = jax.jit(
        lambda params, ids: forward(model, params, trained.batch_stats, ids, trained.selection)[0]
    )
    times = alternate(
        {"full": lambda: step(trained.params, batch), "compact": lambda: bundle.logits(batch)}, 20
    )
    table = trained.params.table
    full = tree_bytes((table, trained.params.network, trained.batch_stats))
    size = bundle.manifest["bytes"]
    lines = [
        ("", "full, masked", "compact", "ratio"),
        ("table rows, bytes", tree_bytes(table.rows), size["rows"], ""),
        ("model in memory, bytes", full, bundle.nbytes, ""),
        ("on disk with vocabulary, bytes", "", disk, ""),
        (f"forward of {BATCH:,} rows, ms", times["full"], times["compact"], ""),
    ]
    return "\n".join(_line(*line) for line in lines)


def _line(name: str, full: Any, small: Any, ratio: str) -> str:
    if not isinstance(full, str):
        ratio = f"{full / small:.2f}x" if small else "-"
    shown = [
        f"{v:,.2f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v
        for v in (full, small)
    ]
    return f"{name:<32}{shown[0]:>16}{shown[1]:>16}{ratio:>9}"


def _write_sample(run: Run, path: Path) -> int:
    """Raw rows as a CSV file; the label is among the columns where the source has it."""
    made_of: dict[str, Any] = {name: run.prepared.options.get(name) for name in PATH_OPTIONS}
    raw = data.DATASETS[run.settings.dataset].raw_data(
        dataclasses.replace(run.settings.data, **made_of)
    )
    block = next(iter(raw.source.blocks()))
    table = pa.table(dict(raw.source.read(block).columns)).slice(0, SAMPLE_ROWS)
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.csv.write_csv(table, path)
    return int(table.num_rows)


if __name__ == "__main__":
    cli.run(main)
