#!/usr/bin/env bash
# deepctr-torch 0.3.0: with validation data, dropout is off from the second epoch on.
#
# `fit` puts the model in training mode once, before its first epoch; `evaluate`, which it calls after
# each epoch that has validation data, puts it in evaluation mode, and nothing puts it back. Dropout
# then does nothing, and batch normalisation stops following the batches. Without validation data all
# is as asked for, so who adds it to stop early trains another model, without a word.
# Expected: training mode in every epoch, as in PyTorch's own examples and in DeepCTR on Keras.
#
# Seen on 2026-11-28 with deepctr-torch 0.3.0, torch 2.13.0:
#     without validation: [True, True, True]
#     with validation:    [True, False, False]
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    deepctr-torch==0.3.0 torch==2.13.0 numpy==2.4.6 scikit-learn==1.9.1 requests==2.34.2
cat > "$folder/show.py" <<'PY'
import numpy as np
from deepctr_torch.callbacks import Callback
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DeepFM


class Watch(Callback):
    """In which mode the model is when an epoch begins."""

    def __init__(self):
        super().__init__()
        self.modes = []

    def on_epoch_begin(self, epoch, logs=None):
        self.modes.append(self.model.dnn.dropout.training)


def modes(validation):
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(0, 10, (640, 1)), rng.integers(0, 2, 640).astype(np.float32)
    columns = [SparseFeat("item", 10, embedding_dim=4)]
    model = DeepFM(columns, columns, dnn_hidden_units=(8,), dnn_dropout=0.5)
    model.compile("adam", "binary_crossentropy", metrics=["auc"])
    watch = Watch()
    given = {"validation_data": ([ids], labels)} if validation else {}
    model.fit([ids], labels, batch_size=64, epochs=3, verbose=0, callbacks=[watch], **given)
    return watch.modes


without, with_validation = modes(False), modes(True)
print("without validation:", without)
print("with validation:   ", with_validation)
assert without == [True, True, True]
assert with_validation == [True, False, False]
PY
"$folder/env/bin/python" "$folder/show.py"
