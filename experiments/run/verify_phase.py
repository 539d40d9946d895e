"""Whether the search was worth it: its winner and the best simple rule, retrained over seeds."""

from typing import Any

from etils.epath import Path

from experiments.run.finalists import Finalist, short_list, train_each, winner_of
from experiments.run.trained import Run
from optembed_jax.search.paired_difference import paired_difference


def verify(run: Run, folder: Path) -> dict[str, Any]:
    """Retrain both with the same seeds and compare them in pairs; the record of the phase.

    The seeds follow that of the run. What is finished is not trained again.
    """
    finalists, limit = short_list(run, winner_of(run, "verify"))
    winner = finalists[0]
    opponent, rule_auc = _best_rule(run, folder, finalists)
    rule = opponent.rules[0]
    seeds = [run.settings.seed + 1 + number for number in range(run.settings.verify_seeds)]
    record: dict[str, Any] = {
        "rule": rule,
        **_budget(run, limit),
        "rule_val_auc": rule_auc,
        "rule_dims": dict(zip(run.prepared.fields.names, opponent.kept.dims.tolist(), strict=True)),
        "seeds": seeds,
    }
    if opponent is winner:
        return {**record, "verdict": f"the winner is the {rule} rule itself: nothing to compare"}
    pairs = [(finalist, seed) for seed in seeds for finalist in (winner, opponent)]
    aucs = []
    for training in train_each(run, folder, "verify", pairs):
        aucs.append(training.record["test_auc"])
        training.forget()
    difference = paired_difference(aucs[::2], aucs[1::2])
    verdict = f"winner against the {rule} rule: {difference.verdict}"
    run.progress.say(f"verify  {verdict}")
    return {
        **record,
        "winner_test_auc": aucs[::2],
        "rule_test_auc": aucs[1::2],
        "difference": difference.mean,
        "half_width": difference.half_width,
        "verdict": verdict,
    }


def _budget(run: Run, limit: int) -> dict[str, int]:
    """What each finalist may cost, in the unit that the run counts in."""
    if run.bundle_cost is None:
        return {"budget_parameters": limit}
    return {"budget_bundle_bytes": run.bundle_cost.told(limit)}


def _best_rule(run: Run, folder: Path, finalists: list[Finalist]) -> tuple[Finalist, float]:
    """The best simple rule by validation AUC, after one training of each, and that AUC.

    The supernet does not choose it: its error on extreme dimensions is what is to be found out.
    Where retraining compared them, that is not done again.
    """
    rules = [finalist for finalist in finalists if finalist.rules]
    compared = run.workdir.require("retrain", "verify").get("finalists", [])
    known = {finalist["name"]: finalist["val_auc"] for finalist in compared}
    if not known:
        run.progress.say("verify  the simple rules first, to find the best of them")
        trainings = [(rule, run.settings.seed) for rule in rules]
        for training in train_each(run, folder, "verify", trainings):
            known[training.finalist.name] = float(training.record["val_auc"])
            training.forget()
    best = max(rules, key=lambda rule: known[rule.name])
    return best, known[best.name]
