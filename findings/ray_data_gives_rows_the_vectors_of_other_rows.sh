#!/usr/bin/env bash
# ray 2.60.0: after Concatenator a row of a shuffled or filtered DataFrame has the dense vector of another.
#
# `Concatenator`, which makes one vector of several numeric columns, and `FeatureHasher` number their results
# from 0 and assign them to the batch as a pandas Series; pandas then matches by the index. A DataFrame that was
# shuffled, sorted, filtered or split has kept its old index, and so each row gets the vector of the row whose
# place its index names, or NaN past the end, while the other columns, such as the label, stay. Nothing is said.
# `ray.data.from_pandas` keeps the index too, so whole data sets of any size are concerned. Blocks that Ray has
# read from a file, filtered or shuffled itself are numbered anew and right: a model may be trained on right rows
# and served through `transform_batch` with wrong ones.
# Expected: the vector of the same row; `HashingVectorizer` and `StandardScaler` do so.
# Around it: `reset_index(drop=True)` before the rows reach Ray.
#
# Seen on 2026-11-29 with ray 2.60.0, pandas 2.3.3, pyarrow 26.0.1; in each row both numbers should be the id:
#     as made:     {1: [1, 1], 2: [2, 2], 3: [3, 3], 4: [4, 4]}
#     turned over: {4: [1, 1], 3: [2, 2], 2: [3, 3], 1: [4, 4]}
#     without 1:   {2: [3, 3], 3: [4, 4], 4: nan}
#     hashed, turned over: {4: 1, 3: 2, 2: 3, 1: 4}
#     turned over, index reset: {4: [4, 4], 3: [3, 3], 2: [2, 2], 1: [1, 1]}
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    'ray[data]==2.60.0' pandas==2.3.3 pyarrow==26.0.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import numpy as np
import pandas as pd
import ray
from ray.data.preprocessors import Concatenator, FeatureHasher

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
rows = pd.DataFrame({"id": [1, 2, 3, 4], "price": [1.0, 2.0, 3.0, 4.0], "age": [1.0, 2.0, 3.0, 4.0]})
joined = Concatenator(columns=["price", "age"], output_column_name="dense")
hashed = FeatureHasher(columns=["price"], num_features=4, output_column="dense")


def told(name, found, plain):
    result = {}
    for number, vector in zip(found["id"], found["dense"]):
        result[int(number)] = plain(np.asarray(vector, float))
    print(f"{name}: {result}")
    return result


def vector_of(vector):
    return [int(value) for value in vector] if vector.ndim else float(vector)


def dataset(name, frame):
    return told(name, joined.transform(ray.data.from_pandas(frame)).to_pandas(), vector_of)


right = {number: [number, number] for number in (1, 2, 3, 4)}
turned, kept = rows.sort_values("id", ascending=False), rows[rows["id"] > 1]
assert dataset("as made", rows) == right
assert dataset("turned over", turned) == {4: [1, 1], 3: [2, 2], 2: [3, 3], 1: [4, 4]}
assert str(dataset("without 1", kept)) == "{2: [3, 3], 3: [4, 4], 4: nan}"
found = told("hashed, turned over", hashed.transform_batch(turned.copy()), lambda vector: int(vector.sum()))
assert found == {4: 1, 3: 2, 2: 3, 1: 4}
again = joined.transform(ray.data.from_pandas(turned.reset_index(drop=True))).to_pandas()
assert told("turned over, index reset", again, vector_of) == right
PY
RAY_USAGE_STATS_ENABLED=0 "$folder/env/bin/python" "$folder/show.py" 2>"$folder/log" \
    || { cat "$folder/log" >&2; exit 1; }
