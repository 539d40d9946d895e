#!/usr/bin/env bash
# category_encoders 2.11.2: HashingEncoder gives user 7 with item 3 the features of user 3 with item 7.
#
# All encoded columns share one set of `n_components` counters ("buckets per encoded column", says its page), and
# what is hashed is the value alone, without the column's name. So a value is the same feature in whichever column
# it stands: two rows that swap values are one row, at any number of components. Logs whose ids are numbered within
# each column have such pairs everywhere. sklearn's FeatureHasher hashes the name with the value.
# Expected: other features for another column, collisions aside, and as many counters a column as the page says.
# Around it: put the column's name before each value, or an encoder for each column.
#
# Seen on 2026-11-29 with category_encoders 2.11.2, scikit-learn 1.9.1, pandas 3.1.1; 60 users times 60 items:
#     different rows of 3600: 1830, and 4096 components give 4096 columns for both
#     with the names before the values: 3600
#     sklearn's FeatureHasher: 3600
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    category_encoders==2.11.2 scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import category_encoders
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.feature_extraction import FeatureHasher

SIDE, COMPONENTS = 60, 4_096
users, items = (cells.ravel().astype(str) for cells in np.meshgrid(np.arange(SIDE), np.arange(SIDE)))
rows = pd.DataFrame({"user": users, "item": items})


def distinct(features):
    features = csr_matrix(features)
    features.sort_indices()
    return len({(*row.indices, *row.data) for row in features})


def hashed(table):
    encoder = category_encoders.HashingEncoder(n_components=COMPONENTS, max_process=1)
    return encoder.fit_transform(table)


def main():
    plain = hashed(rows)
    named = hashed(pd.DataFrame({name: name + "=" + rows[name] for name in rows}))
    other = FeatureHasher(2**20).transform(rows.to_dict("records"))
    count, own, theirs = distinct(plain), distinct(named), distinct(other)
    print(
        f"different rows of {SIDE**2}: {count}, "
        f"and {COMPONENTS} components give {plain.shape[1]} columns for both"
    )
    print("with the names before the values:", own)
    print("sklearn's FeatureHasher:", theirs)
    assert count <= SIDE * (SIDE + 1) // 2 and plain.shape[1] == COMPONENTS
    assert own > 3_400 and theirs > 3_400


if __name__ == "__main__":
    main()
PY
"$folder/env/bin/python" "$folder/show.py"
