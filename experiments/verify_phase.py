"""Whether the search was worth it: its winner and the best simple rule, retrained over seeds."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from experiments.search_phase import chosen, picked
from experiments.search_setup import Masks, masks_of, rule_names, space_of, supernet_of
from experiments.trained import Run, Trained
from experiments.training_phases import retrain_as
from experiments.workdir import write_json
from optembed_jax.paired_difference import paired_difference


def verify(run: Run, folder: Path) -> dict[str, Any]:
    """Retrain both with the same seeds and compare them in pairs; the record of the phase.

    The rule has the budget of the search, or without one the size of the winner's table. The seeds
    follow that of the run. What is finished is not trained again.
    """
    fields, settings = run.prepared.fields, run.settings
    supernet = supernet_of(run)
    masks = masks_of(run, supernet)
    point = picked(run, "verify")
    winner = chosen(supernet, masks, point, fields)
    limit = settings.search_options.limit
    if limit is None or settings.pick != "best":
        rows = winner.rows if settings.model.prunes_rows else None
        own = space_of(run, Masks((rows,), (None,)), None)
        limit = int(own.parameters(winner.dims))
    rule, rule_auc, opponent = _best_rule(run, folder, winner, limit)
    record: dict[str, Any] = {
        "rule": rule,
        "budget_parameters": limit,
        "rule_val_auc": rule_auc,
        "rule_dims": dict(zip(fields.names, opponent.dims.tolist(), strict=True)),
        "seeds": [settings.seed + 1 + number for number in range(settings.verify_seeds)],
    }
    if (winner.dims == opponent.dims).all():
        return {**record, "verdict": f"the winner is the {rule} rule itself: nothing to compare"}
    aucs: dict[str, list[float]] = {"winner": [], "rule": []}
    for seed in record["seeds"]:
        for name, model in (("winner", winner), ("rule", opponent)):
            run.progress.say(f"verify  {name if name == 'winner' else rule}, seed {seed}")
            place = folder / f"{'winner' if name == 'winner' else rule}_{seed}"
            aucs[name].append(_retrained(run, place, model, seed)["test_auc"])
    difference = paired_difference(aucs["winner"], aucs["rule"])
    verdict = f"winner against the {rule} rule: {difference.verdict}"
    run.progress.say(f"verify  {verdict}")
    return {
        **record,
        "winner_test_auc": aucs["winner"],
        "rule_test_auc": aucs["rule"],
        "difference": difference.mean,
        "half_width": difference.half_width,
        "verdict": verdict,
    }


def _best_rule(run: Run, folder: Path, winner: Trained, limit: int) -> tuple[str, float, Trained]:
    """The best simple rule with the winner's rows, after one retraining of each.

    The supernet does not choose it: its error on extreme dimensions is what is to be found out.
    """
    rows = winner.rows if run.settings.model.prunes_rows else None
    space = space_of(run, Masks((rows,), (None,)), limit)
    by_dims: dict[bytes, tuple[str, Trained]] = {}
    for rule, candidates in rule_names(space, limit):
        model = dataclasses.replace(winner, dims=candidates[0])
        by_dims.setdefault(candidates[0].tobytes(), (rule, model))
    rated = []
    for rule, model in by_dims.values():
        run.progress.say(f"verify  {rule}, to find the best simple rule")
        outcome = _retrained(run, folder / f"{rule}_{run.settings.seed}", model, run.settings.seed)
        rated.append((float(outcome["val_auc"]), rule, model))
    auc, rule, opponent = max(rated, key=lambda rating: rating[0])
    return rule, auc, opponent


def _retrained(run: Run, folder: Path, model: Trained, seed: int) -> dict[str, Any]:
    """The record of a retraining with a seed; only that is kept of it."""
    result = folder / "result.json"
    if not result.exists():
        folder.mkdir(exist_ok=True)
        settings = dataclasses.replace(run.settings, seed=seed)
        record = retrain_as(dataclasses.replace(run, settings=settings), folder, model)
        write_json(result, record)
        for leftover in ("state", "checkpoints"):
            shutil.rmtree(folder / leftover, ignore_errors=True)
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found
