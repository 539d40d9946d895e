#!/usr/bin/env bash
# deepctr-torch 0.3.0: ids from 2^24 on are rounded, so that neighbours read the same row.
#
# `fit` and `predict` cast the whole input to float32 (`.float()`), since ids and dense values travel in
# one tensor; the embedding casts back (`.long()`). A float32 holds whole numbers up to 2^24 exactly: of
# two neighbouring ids beyond it one reads the other's row, and its own is never trained. Fields of that
# size are what CTR models have (Criteo's terabyte log: tens of millions of values in one field).
# Expected: an id reads its row, or an error that says how many rows a field may have.
#
# Seen on 2026-11-28 with deepctr-torch 0.3.0, torch 2.13.0; only row 16,777,217 has a weight:
#     id 16777215: 0.5000
#     id 16777216: 0.5000
#     id 16777217: 0.5000
#     id 16777218: 0.5000
# and with the weight in row 16,777,216, both 16,777,216 and 16,777,217 give 0.9526.
#
# Succeeds while that is so; fails once it has changed. Needs about 1 GB of memory.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    deepctr-torch==0.3.0 torch==2.13.0 numpy==2.4.6 scikit-learn==1.9.1 requests==2.34.2
cat > "$folder/show.py" <<'PY'
import numpy as np
import torch
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DeepFM

FIRST = 2**24
IDS = np.arange(FIRST - 1, FIRST + 3)

columns = [SparseFeat("item", FIRST + 3, embedding_dim=1)]
model = DeepFM(columns, columns, use_fm=False, dnn_hidden_units=())
model.compile("adam", "binary_crossentropy")


def scores(row):
    """Predictions for the ids where only this row has a linear weight, 3."""
    with torch.no_grad():
        weights = model.linear_model.embedding_dict["item"].weight
        weights.zero_()
        weights[row] = 3.0
    return model.predict([IDS[:, None]]).ravel().round(4)


own, before = scores(FIRST + 1), scores(FIRST)
for number, score in zip(IDS, own):
    print(f"id {number}: {score:.4f}")
print("with the weight one row earlier:", before)
assert (own == 0.5).all(), "row 2^24 + 1 is read by its id"
assert (before == [0.5, 0.9526, 0.9526, 0.5]).all()
PY
"$folder/env/bin/python" "$folder/show.py"
