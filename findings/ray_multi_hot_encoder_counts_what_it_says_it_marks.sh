#!/usr/bin/env bash
# ray 2.60.0: MultiHotEncoder gives 2 for a tag that a row has twice, though it speaks of a binary list.
#
# Its documentation says "binary list" and that element i "is 1 if category i is in the input list and 0
# otherwise", similar to scikit-learn's MultiLabelBinarizer; all its examples have each value once. It counts
# instead. The tags, pages or items of a click log repeat, so a model is trained on counts where the indicator
# was meant, and a tower that sums embeddings by it weighs a repeated tag twice; a server that follows the
# documentation, or scikit-learn, then feeds that model other values.
# Expected: 0 and 1 only, or counts that the documentation tells of.
# Around it: take repeats out of each list first, or clip the result at 1.
#
# Seen on 2026-11-29 with ray 2.60.0, pandas 2.3.3, pyarrow 26.0.1; the categories are a, b, c:
#     rows:       [['a', 'b', 'a'], ['c'], ['b', 'b', 'b']]
#     as told of: [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
#     encoded:    [[2, 1, 0], [0, 0, 1], [0, 3, 0]]
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    'ray[data]==2.60.0' pandas==2.3.3 pyarrow==26.0.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import pandas as pd
import ray
from ray.data.preprocessors import MultiHotEncoder

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
tags = [["a", "b", "a"], ["c"], ["b", "b", "b"]]
dataset = ray.data.from_pandas(pd.DataFrame({"tags": tags}))
encoded = MultiHotEncoder(columns=["tags"]).fit_transform(dataset).to_pandas()["tags"]
counts = [[int(value) for value in row] for row in encoded]
marks = [[int(value in row) for value in "abc"] for row in tags]
print(f"rows:       {tags}")
print(f"as told of: {marks}")
print(f"encoded:    {counts}")
assert "binary list" in " ".join(MultiHotEncoder.__doc__.split())
assert counts == [[2, 1, 0], [0, 0, 1], [0, 3, 0]] != marks
PY
RAY_USAGE_STATS_ENABLED=0 "$folder/env/bin/python" "$folder/show.py" 2>"$folder/log" \
    || { cat "$folder/log" >&2; exit 1; }
