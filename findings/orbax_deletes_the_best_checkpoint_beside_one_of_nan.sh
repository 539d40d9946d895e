#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: a metric of NaN makes CheckpointManager delete the best checkpoint.
#
# It keeps "the best" by sorting the values of `best_fn`, and NaN, which is neither less nor greater than
# any value, leaves a list unsorted: NaN itself is the best while it is the latest, and then whatever
# comes after it. scikit-learn's AUC is NaN, with a mere warning, for a validation slice without a click,
# as an hour or a rare campaign is. `preservation_policy.BestN`, which the documentation now prefers,
# sorts alike. Checkpoints without metrics are spoken of there, NaN is not.
# Expected: a NaN counts as no metric or as the worst (Ray filters it out, says its documentation).
# Around it: `metrics=None` for such a step, or a `best_fn` that gives -inf for NaN.
#
# Seen on 2026-11-29 with orbax-checkpoint 0.12.8, scikit-learn 1.9.1, jax 0.10.2; the best one is kept:
#     AUC 0.75 in step 1: kept [1], the best is 1
#     AUC nan in step 2: kept [2], the best is 2
#     AUC 0.5 in step 3: kept [3], the best is 3
#     with BestN: [[1], [2], [3]]
# Without step 2, step 1 is kept.
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 scikit-learn==1.9.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import pathlib
import sys
import warnings

import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import BestN
from sklearn.metrics import roc_auc_score

warnings.simplefilter("ignore")
SCORES = [0.1, 0.2, 0.3, 0.4]
SLICES = {1: [0, 1, 0, 1], 2: [0, 0, 0, 0], 3: [1, 0, 0, 1]}  # Clicks; step 2 has none.


def auc(metrics):
    return metrics["auc"]


def kept(path, options, steps):
    """The steps kept and the best one, after each save."""
    found = []
    with ocp.CheckpointManager(path, options=options) as manager:
        for step in steps:
            value = float(roc_auc_score(SLICES[step], SCORES))
            saved = ocp.args.StandardSave({"table": np.full(3, step)})
            manager.save(step, args=saved, metrics={"auc": value})
            manager.wait_until_finished()
            found.append((value, list(manager.all_steps()), manager.best_step()))
    return found


folder = pathlib.Path(sys.argv[1])
options = ocp.CheckpointManagerOptions(max_to_keep=1, best_fn=auc, best_mode="max")
seen = kept(folder / "best", options, SLICES)
for step, (value, steps, best) in zip(SLICES, seen):
    print(f"AUC {value:.2g} in step {step}: kept {steps}, the best is {best}")
policy = ocp.CheckpointManagerOptions(preservation_policy=BestN(get_metric_fn=auc, n=1))
by_policy = [steps for _, steps, _ in kept(folder / "policy", policy, SLICES)]
print("with BestN:", by_policy)

assert kept(folder / "finite", options, [1, 3])[-1] == (0.5, [1], 1), "without NaN the best is kept"
assert np.isnan(seen[1][0])
assert [steps for _, steps, _ in seen] == by_policy == [[1], [2], [3]]
assert [best for _, _, best in seen] == [1, 2, 3]
PY
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/show.py" "$folder" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
