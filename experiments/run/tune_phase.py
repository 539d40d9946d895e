"""The phase ``tune``: which strength of the rows' regulariser validates best, before all others.

The plain model is trained with each strength of a short ladder, on a part of the rows where there
are many; what validates best is what the later phases train with. Fewer rows overfit earlier, so
that a small part can ask for a stronger regulariser than the whole.
"""

import dataclasses
from collections.abc import Mapping, Sequence
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
    """Train with each strength of the ladder, those that are finished excepted; the record.

    Of the group lasso then with each strength of the L2 beside the best of them.
    """
    options = run.settings.tune
    assert options is not None
    of, by = options.strength, run.settings.early_stop_by
    count = len(options.ladder) + len(options.beside)
    without = {"table_l2": 0.0} if options.beside else {}
    rungs = [
        _rung(run, folder, {of: value, **without}, f"{number} of {count}")
        for number, value in enumerate(options.ladder, 1)
    ]
    best = best_of(rungs, by)[of]
    if best in (options.ladder[0], options.ladder[-1]):
        run.progress.say(
            f"tune  {of} {best:g} is an end of the ladder; a longer --tune_ladder may find a "
            "better one"
        )
    for number, l2 in enumerate(options.beside, len(options.ladder) + 1):
        rungs.append(_rung(run, folder, {of: best, "table_l2": l2}, f"{number} of {count}"))
    chosen = {name: best_of(rungs, by)[name] for name in options.strengths}
    figure = {"auc": "AUC", "logloss": "logloss"}[by]
    run.progress.say(f"tune  chosen: {_told(chosen)}, the best validation {figure}")
    of_l2 = {"table_l2": chosen["table_l2"]} if options.beside else {}
    return {"strength": of, "chosen": best, **of_l2, "ladder": rungs}


def _rung(run: Run, folder: Path, strengths: Mapping[str, float], place: str) -> dict[str, Any]:
    """Train with some strengths, unless that is finished; how they validate."""
    options = run.settings.tune
    assert options is not None
    values = [f"{value:g}" for value in strengths.values()]
    own = folder / "rungs" / "+".join(values)
    result = own / "result.json"
    if not result.exists():
        told = f"tune  {_told(strengths)}, {place}"
        run.progress.say(told)
        processes.stop_if_asked(f"the tuning with {_told(strengths)}")
        if processes.is_first():
            own.mkdir(parents=True, exist_ok=True)
        barrier.wait(f"{own} is there")
        settings = dataclasses.replace(
            tuned(run.settings, strengths), epochs=min(run.settings.epochs, options.epochs)
        )
        best, rows = fit_baseline(
            dataclasses.replace(run, settings=settings), own, told, options.rows
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
        (own / "checkpoints").rmtree(missing_ok=True)
    return {**strengths, **read_json(result, run_again(own))}


def _told(strengths: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in strengths.items())


def best_of(rungs: Sequence[dict[str, Any]], by: str) -> dict[str, Any]:
    """The rung of the best validation, by what epochs are judged by; the first of equals."""
    if by == "logloss":
        return min(rungs, key=lambda rung: float(rung["val_logloss"]))
    return max(rungs, key=lambda rung: float(rung["val_auc"]))


def tuned(settings: Settings, strengths: Mapping[str, float]) -> Settings:
    """The settings with other strengths of what is tuned."""
    train: dict[str, Any] = dict(strengths)
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, **train))


def with_chosen(settings: Settings, workdir: Workdir) -> Settings:
    """The settings with the strengths that the phase has chosen; before it has, as they are."""
    record = None if settings.tune is None else workdir.result("tune")
    if record is None:
        return settings
    chosen = {record["strength"]: record["chosen"]}
    if "table_l2" in record:
        chosen["table_l2"] = record["table_l2"]
    return tuned(settings, chosen)


def strengths_of(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """The flags that a run's tuning decided, by its summary; none where it did not tune."""
    record = summary.get("tune")
    if record is None:
        return ()
    return (record["strength"], "table_l2") if "table_l2" in record else (record["strength"],)
