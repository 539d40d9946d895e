#!/usr/bin/env bash
# pyarrow 26.0.1: an array of list views cast to lists has lost the values of its last row, without a word.
#
# List views are the newer form of a column of several values, which query engines hand over through Arrow.
# `cast` to the older form, which is what most code reads, gives as many rows, each missing one still missing,
# but the last row that has values is empty. `to_pylist` of the views themselves is right.
# Expected: the same values, or an error.
#
# Seen on 2026-11-28 with pyarrow 26.0.1:
#     views: [['a', 'b'], ['c'], None, ['d', 'e', 'f']]
#     cast to lists: [['a', 'b'], ['c'], None, []]
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1
cat > "$folder/show.py" <<'PY'
import pyarrow as pa

tags = [["a", "b"], ["c"], None, ["d", "e", "f"]]
views = pa.array(tags, pa.list_view(pa.string()))
lists = views.cast(pa.list_(pa.string()))
print("views:", views.to_pylist())
print("cast to lists:", lists.to_pylist())
assert views.to_pylist() == tags
assert lists.to_pylist() == [["a", "b"], ["c"], None, []]
PY
"$folder/env/bin/python" "$folder/show.py"
