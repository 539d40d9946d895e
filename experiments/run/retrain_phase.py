"""The retraining phase: the table that was found, or the best of a short list of tables."""

import dataclasses
from typing import Any

from etils.epath import Path

from experiments.run import processes
from experiments.run.bundle_rows import begun_shape
from experiments.run.choose_phase import choice_of
from experiments.run.earlier_run import MEMORY
from experiments.run.finalists import (
    Finalist,
    Training,
    best_of,
    short_list,
    train_each,
    winner_of,
)
from experiments.run.records import run_again, write_text
from experiments.run.trained import Run, cut_to, load_trained
from experiments.run.training_phases import retrain_as
from experiments.run.workdir import UNDER_WAY
from optembed_jax.rivals.registry import OPTEMBED
from optembed_jax.storage import array_file, saved_state


def retrain(run: Run, folder: Path) -> dict[str, Any]:
    """Train with the rows and dimensions that were found or chosen; the record of the phase.

    With ``--finalists`` the simple rules of the same size are trained too, with the same seed, and
    the model with the best validation AUC is the one that the phase leaves. Where nothing was
    searched, the supernet stands in their place: it trained with all columns, as the retrained
    model does, and with all rows, and sometimes is the better one even without most of them.
    """
    if run.settings.method != OPTEMBED:
        return retrain_as(run, folder, choice_of(run))
    if run.settings.keeps_shape:
        return retrain_as(run, folder, begun_shape(run, folder))
    supernet = None if run.settings.model.searches_dims else _supernet(run)
    winner = winner_of(run, "retrain") if supernet is None else supernet.finalist.kept
    if not run.settings.has_finalists:
        return retrain_as(run, folder, winner)
    finalists = [Finalist("retrained", (), winner)]
    if supernet is None:
        finalists, _ = short_list(run, winner)
    trainings = [(finalist, run.settings.seed) for finalist in finalists]
    finished: list[Training] = []
    for training in train_each(run, folder / UNDER_WAY, "retrain", trainings):
        before, finished = finished, [*finished, training]
        best = best_of(finished)
        if before:
            (best_of(before) if best is training else training).forget()
    if supernet is not None:
        finished = [*finished, supernet]
        best = best_of(finished)
    # Copied, not moved: a kill from here on finds everything where it was.
    model = load_trained(run, "retrain", best.folder, on_host=True)
    if best.finalist.name == "supernet" and run.settings.model.shares_stand_in:
        model = dataclasses.replace(model, params=cut_to(run, model, model.rows))
    if processes.is_first():
        memory = array_file.load(best.folder / MEMORY, run_again(best.folder))
        array_file.save(folder / MEMORY, memory)
    saved_state.save(folder / "state", model.as_tree())
    write_text(folder / "metrics.jsonl", (best.folder / "metrics.jsonl").read_text("utf-8"))
    run.progress.say(f"retrain  kept: {best.finalist.name}, the best validation AUC")
    return {
        **{name: best.record[name] for name in finished[0].record},
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


def _supernet(run: Run) -> Training:
    """The supernet with the rows that it keeps, as a training of the short list."""
    folder, record = run.workdir.phase_dir("supernet"), run.workdir.require("supernet", "retrain")
    model = load_trained(run, "supernet", on_host=True)
    return Training(Finalist("supernet", (), model.kept), folder, record)
