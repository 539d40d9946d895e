#!/usr/bin/env bash
# duckdb 2.0.1: `isnan(price)` of a Parquet file by pyarrow or polars is false for the very row that is NaN.
#
# The format leaves NaN out of a column's least and largest value, as its writers then do. DuckDB concludes from
# these two that there is no NaN and takes what depends on one out of the query: `isnan` becomes false, `nullif`
# changes nothing, `price <= 3` is true of NaN, for which DuckDB itself says it is the largest number. So the usual
# look at a click log, how many prices are missing, finds none, and the sum that leaves them out is NaN. The same
# rows in a file that DuckDB wrote, or in a table read from the same file first, are answered right.
# Expected: the answers of the rows, however they are stored.
# Around it: `read_parquet(..., can_have_nan=true)`, or no NaN in Parquet but nulls.
#
# Seen on 2026-11-29 with duckdb 2.0.1, pyarrow 26.0.1, polars 2.1.0; prices 1, 2, NaN and 3:
#     table: NaN rows 1, isnan of row 2 True, up to 3: 3 rows, sum of the others 6.0
#     by DuckDB: NaN rows 1, isnan of row 2 True, up to 3: 3 rows, sum of the others 6.0
#     by pyarrow: NaN rows 0, isnan of row 2 False, up to 3: 4 rows, sum of the others nan
#     by polars: NaN rows 0, isnan of row 2 False, up to 3: 4 rows, sum of the others nan
#     by pyarrow, can_have_nan: NaN rows 1, isnan of row 2 True, up to 3: 3 rows, sum of the others 6.0
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    duckdb==2.0.1 pyarrow==26.0.1 polars==2.1.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import math
import os
import sys

import duckdb
import polars
import pyarrow
import pyarrow.parquet

os.chdir(sys.argv[1])
rows = pyarrow.table({"row": [0, 1, 2, 3], "price": [1.0, 2.0, math.nan, 3.0]})
pyarrow.parquet.write_table(rows, "pyarrow.parquet")
polars.from_arrow(rows).write_parquet("polars.parquet")
duckdb.sql("create table clicks as select * from 'pyarrow.parquet'")
duckdb.sql("copy clicks to 'duckdb.parquet'")


def answers(what, source):
    def ask(query):
        return duckdb.sql(f"select {query}".format(source)).fetchall()[0][0]

    count = ask("count(*) from {} where isnan(price)")
    said = ask("isnan(price) from {} where row = 2")
    most = ask("count(*) from {} where price <= 3")
    total = ask("sum(case when isnan(price) then 0 else price end) from {}")
    print(f"{what}: NaN rows {count}, isnan of row 2 {said}, up to 3: {most} rows, sum of the others {total}")
    return count, said, most, str(total)


right, wrong = (1, True, 3, "6.0"), (0, False, 4, "nan")
assert answers("table", "clicks") == right
assert answers("by DuckDB", "'duckdb.parquet'") == right
assert answers("by pyarrow", "'pyarrow.parquet'") == wrong
assert answers("by polars", "'polars.parquet'") == wrong
assert answers("by pyarrow, can_have_nan", "read_parquet('pyarrow.parquet', can_have_nan=true)") == right
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
