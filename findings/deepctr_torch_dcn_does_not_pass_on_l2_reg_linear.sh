#!/usr/bin/env bash
# deepctr-torch 0.3.0: DCN takes `l2_reg_linear`, and its linear part pays 1e-5 whatever is given.
#
# The constructor does not hand the argument to the base class, whose default stays; it goes to the last
# dense layer instead. DeepFM, with the same argument and the same words about it ("L2 regularizer
# strength applied to linear part"), does as it says. Nobody who tunes the strength on DCN or DCN-V2
# (`cross_parameterization="matrix"`) tunes what they think.
# Expected: the linear weights pay what was asked for.
#
# Seen on 2026-11-28 with deepctr-torch 0.3.0, torch 2.13.0; what ten linear weights of 1 pay under 0.5:
#     DeepFM: 5.0
#     DCN: 0.0001
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    deepctr-torch==0.3.0 torch==2.13.0 numpy==2.4.6 scikit-learn==1.9.1 requests==2.34.2
cat > "$folder/show.py" <<'PY'
import torch
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DCN, DeepFM


def paid(model_class):
    """The L2 of ten linear weights of 1, every other parameter being 0."""
    columns = [SparseFeat("item", 10, embedding_dim=4)]
    model = model_class(columns, columns, l2_reg_linear=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.linear_model.embedding_dict["item"].weight.fill_(1.0)
    return round(model.get_regularization_loss().item(), 6)


deepfm, dcn = paid(DeepFM), paid(DCN)
print("DeepFM:", deepfm)
print("DCN:", dcn)
assert deepfm == 5.0
assert dcn == 0.0001
PY
"$folder/env/bin/python" "$folder/show.py"
