#!/usr/bin/env bash
# river 0.26.1: FTRLProximal scores with weights one sighting old, and its L1 does not make them zero.
#
# The paper it cites (Ad click prediction: a view from the trenches) computes a weight from its sums when
# it is needed, and gives it 0 while the sum is within L1. Here `step` computes the weight from the sums
# and then adds the gradient to them: what an id's latest row taught waits for the id's next row. An id
# seen once scores as if never seen, as most ids in a click log are. And where the sum comes back within
# L1, the weight is not set to 0: the old one stays.
# Expected: the paper's algorithm, and that of TensorFlow's optimizer, which its page cites as well.
# Around it: weights of one's own from `optimizer.z` and `optimizer.n`, as below.
#
# Seen on 2026-11-29 with river 0.26.1; LogisticRegression without intercept:
#     after one click, weight 0.0000, score 0.5000; by the sums 0.0333
#     after two clicks, weight 0.0333; by the sums 0.0626
#     L1: sum -1.09, -0.59, -0.09, 0.41, 0.90, 1.40 within 1.5, weight 0.003896 all along
# where the paper's is 0.
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    river==0.26.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import math

from river.linear_model import LogisticRegression
from river.optim import FTRLProximal

AD = {"ad=7": 1}


def model(l1=0.0):
    optimizer = FTRLProximal(alpha=0.1, beta=1.0, l1=l1, l2=0.0)
    return LogisticRegression(optimizer, intercept_lr=0)


def by_the_sums(optimizer):
    """The weight of the paper's algorithm 1."""
    z, n = optimizer.z["ad=7"], optimizer.n["ad=7"]
    if abs(z) <= optimizer.l1:
        return 0.0
    shrunk = z - math.copysign(optimizer.l1, z)
    return -shrunk / ((optimizer.beta + math.sqrt(n)) / optimizer.alpha + optimizer.l2)


plain = model()
plain.learn_one(AD, True)
once, score, due = plain.weights["ad=7"], plain.predict_proba_one(AD)[True], by_the_sums(plain.optimizer)
print(f"after one click, weight {once:.4f}, score {score:.4f}; by the sums {due:.4f}")
plain.learn_one(AD, True)
twice = plain.weights["ad=7"]
print(f"after two clicks, weight {twice:.4f}; by the sums {by_the_sums(plain.optimizer):.4f}")
assert once == 0 and score == 0.5
assert abs(due - 1 / 30) < 1e-9
assert twice == due, "the weight is the one due a row before"

sparse = model(l1=1.5)
within = []
for row in range(14):  # Five clicks, then none.
    sparse.learn_one(AD, row < 5)
    if row > 5 and abs(sparse.optimizer.z["ad=7"]) <= 1.5:
        within.append((sparse.optimizer.z["ad=7"], sparse.weights["ad=7"]))
        assert by_the_sums(sparse.optimizer) == 0
weights = {weight for _, weight in within}
sums = ", ".join(f"{z:.2f}" for z, _ in within)
print(f"L1: sum {sums} within 1.5, weight {', '.join(f'{w:.6f}' for w in weights)} all along")
assert len(within) > 3
assert len(weights) == 1 and 0 not in weights
PY
"$folder/env/bin/python" "$folder/show.py"
