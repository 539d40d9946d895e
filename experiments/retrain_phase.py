"""The retraining phase: the table that was found, or the best of a short list of tables."""

from typing import Any

from etils.epath import Path

from experiments.short_list import Training, best_of, short_list, train_each, winner_of
from experiments.trained import Run, load_trained
from experiments.training_phases import retrain_as
from experiments.workdir import UNDER_WAY, write_text
from optembed_jax import checkpoint


def retrain(run: Run, folder: Path) -> dict[str, Any]:
    """Train with the rows and dimensions that were found; the record of the phase.

    With ``--finalists`` the simple rules of the same size are trained too, with the same seed, and
    the model with the best validation AUC is the one that the phase leaves.
    """
    if not run.settings.model.searches_dims:
        return retrain_as(run, folder, load_trained(run, "supernet", on_host=True))
    winner = winner_of(run, "retrain")
    if not run.settings.has_finalists:
        return retrain_as(run, folder, winner)
    finalists, _ = short_list(run, winner)
    trainings = [(finalist, run.settings.seed) for finalist in finalists]
    finished: list[Training] = []
    for training in train_each(run, folder / UNDER_WAY, "retrain", trainings):
        before, finished = finished, [*finished, training]
        best = best_of(finished)
        if before:
            (best_of(before) if best is training else training).forget()
    # Copied, not moved: a kill from here on finds everything where it was.
    model = load_trained(run, "retrain", best.folder, on_host=True)
    checkpoint.save(folder / "state", model.as_tree())
    write_text(folder / "metrics.jsonl", (best.folder / "metrics.jsonl").read_text("utf-8"))
    run.progress.say(f"retrain  kept: {best.finalist.name}, the best validation AUC")
    return {
        **best.record,
        "kept": best.finalist.name,
        "finalists": [
            {
                "name": training.finalist.name,
                "rules": list(training.finalist.rules),
                "val_auc": training.record["val_auc"],
                "table_parameters": training.record["table_parameters"],
                "dims": {field["name"]: field["dim"] for field in training.record["fields"]},
            }
            for training in finished
        ],
    }
