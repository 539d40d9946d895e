"""The phase ``tune``: which strength of the rows' regulariser validates best, before all others.

The plain model is trained with each strength of a short ladder, on a part of the rows where there
are many; what validates best is what the later phases train with. Fewer rows overfit earlier, so
that a small part can ask for a stronger regulariser than the whole.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from etils.epath import Path

from experiments.run import processes
from experiments.run.records import read_json, run_again, write_json
from experiments.run.settings import Settings
from experiments.run.trained import Run
from experiments.run.training_phases import fit_baseline
from experiments.run.workdir import Workdir
from optembed_jax.storage import barrier


def tune(run: Run, folder: Path) -> dict[str, Any]:
    """Train with each strength of the ladder, those that are finished excepted; the record."""
    options = run.settings.tune
    assert options is not None
    rungs = []
    for number, value in enumerate(options.ladder, 1):
        place = folder / "rungs" / f"{value:g}"
        result = place / "result.json"
        if not result.exists():
            told = f"tune  {options.strength} {value:g}, {number} of {len(options.ladder)}"
            run.progress.say(told)
            processes.stop_if_asked(f"the tuning with {options.strength} {value:g}")
            if processes.is_first():
                place.mkdir(parents=True, exist_ok=True)
            barrier.wait(f"{place} is there")
            settings = dataclasses.replace(
                tuned(run.settings, value), epochs=min(run.settings.epochs, options.epochs)
            )
            best, rows = fit_baseline(
                dataclasses.replace(run, settings=settings), place, told, options.rows
            )
            rung = {
                "val_auc": best.val_auc,
                "val_logloss": best.val_logloss,
                "best_epoch": best.number,
                "rows": rows,
            }
            write_json(result, rung)
            barrier.wait(f"{result} is written")
        if processes.is_first():
            (place / "checkpoints").rmtree(missing_ok=True)
        rungs.append({options.strength: value, **read_json(result, run_again(place))})
    chosen = best_of(rungs, run.settings.early_stop_by)[options.strength]
    figure = {"auc": "AUC", "logloss": "logloss"}[run.settings.early_stop_by]
    run.progress.say(f"tune  chosen: {options.strength} {chosen:g}, the best validation {figure}")
    if chosen in (options.ladder[0], options.ladder[-1]):
        run.progress.say(
            "tune  that is an end of the ladder; a longer --tune_ladder may find a better one"
        )
    return {"strength": options.strength, "chosen": chosen, "ladder": rungs}


def best_of(rungs: Sequence[dict[str, Any]], by: str) -> dict[str, Any]:
    """The rung of the best validation, by what epochs are judged by; the first of equals."""
    if by == "logloss":
        return min(rungs, key=lambda rung: float(rung["val_logloss"]))
    return max(rungs, key=lambda rung: float(rung["val_auc"]))


def tuned(settings: Settings, value: float) -> Settings:
    """The settings with another strength of what is tuned."""
    assert settings.tune is not None
    strength: Any = {settings.tune.strength: value}
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, **strength))


def with_chosen(settings: Settings, workdir: Workdir) -> Settings:
    """The settings with the strength that the phase has chosen; before it has, as they are."""
    record = None if settings.tune is None else workdir.result("tune")
    return settings if record is None else tuned(settings, record["chosen"])
