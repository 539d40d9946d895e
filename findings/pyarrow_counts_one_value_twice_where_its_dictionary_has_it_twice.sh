#!/usr/bin/env bash
# pyarrow 26.0.1: `value_counts`, `unique` and `group_by` of a dictionary column may give one value several times.
#
# They count the codes of a dictionary column and not its values. The Arrow format lets a dictionary have a value
# twice, and ordinary steps make such ones: `cast` of coded texts to coded numbers, where "7" and "007" are one
# number, or lower case put on the few values of the dictionary instead of on all rows. `validate(full=True)`
# passes, and `equal`, `is_in` and `index_in` compare the values. A vocabulary made of the counts so has a value in
# two rows of the table, a least count drops what is frequent enough, a rate of clicks falls apart into two;
# `dict(zip(values, counts))` keeps the last count. `dictionary_encode` leaves such a column as it is.
# Expected: each value once with all its rows, as polars and DuckDB have it from the same table.
# Around it: `cast(column.type.value_type)`, then count, or then `dictionary_encode` again.
#
# Seen on 2026-11-29 with pyarrow 26.0.1:
#     rows after the cast: [7, 7, 8, 7, 7]
#     value_counts: [(7, 2), (7, 2), (8, 1)]
#     unique: [7, 7, 8]
#     group_by: {'item': [7, 7, 8], 'click_mean': [1.0, 0.0, 0.0]}
#     equal to 7: 4 rows
#     lower case: [('shoes', 1), ('hats', 1), ('shoes', 1)]
#     values first: [(7, 4), (8, 1)]
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1
cat > "$folder/show.py" <<'PY'
import pyarrow as pa
import pyarrow.compute as pc


def counted(column):
    return [(pair["values"], pair["counts"]) for pair in column.value_counts().to_pylist()]


texts = pa.array(["7", "007", "8", "7", "007"]).dictionary_encode()
items = texts.cast(pa.dictionary(pa.int32(), pa.int64()))
items.validate(full=True)
clicks = pa.table({"item": items, "click": [1, 0, 0, 1, 0]})
rates = clicks.group_by("item", use_threads=False).aggregate([("click", "mean")]).to_pydict()
alike = pc.sum(pc.equal(items, 7)).as_py()
tags = pa.array(["Shoes", "hats", "shoes"]).dictionary_encode()
lower = pa.DictionaryArray.from_arrays(tags.indices, pc.utf8_lower(tags.dictionary))
lower.validate(full=True)
values = items.cast(items.type.value_type)
print(f"rows after the cast: {items.to_pylist()}")
print(f"value_counts: {counted(items)}")
print(f"unique: {items.unique().to_pylist()}")
print(f"group_by: {rates}")
print(f"equal to 7: {alike} rows")
print(f"lower case: {counted(lower)}")
print(f"values first: {counted(values)}")
assert items.to_pylist() == [7, 7, 8, 7, 7]
assert counted(items) == counted(items.dictionary_encode()) == [(7, 2), (7, 2), (8, 1)]
assert items.unique().to_pylist() == [7, 7, 8]
assert rates == {"item": [7, 7, 8], "click_mean": [1.0, 0.0, 0.0]}
assert alike == 4
assert counted(lower) == [("shoes", 1), ("hats", 1), ("shoes", 1)]
assert counted(values) == [(7, 4), (8, 1)]
PY
"$folder/env/bin/python" "$folder/show.py"
