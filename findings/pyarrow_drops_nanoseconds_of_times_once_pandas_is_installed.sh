#!/usr/bin/env bash
# pyarrow 26.0.1 and pandas 3.1.1: with pandas installed, to_pylist of time64[ns] drops what is below a microsecond.
#
# Without pandas it raises: "Nanosecond resolution temporal type 7 is not safely convertible to microseconds ...
# Install pandas to return as Timestamp with nanosecond support". With pandas, which nothing has to import, there is no
# error and no nanosecond, while timestamps do come with theirs, as pandas' own. So two times become one value, and
# code that caught the error and read the texts instead stops doing so the day pandas is installed.
# Expected: the error, as pyarrow itself gives on a cast to microseconds.
# Who makes values of times of day takes texts of them (cast to string), as this project does.
#
# Seen on 2026-11-29 with pyarrow 26.0.1, first without pandas, then with pandas 3.1.1:
#     ValueError: Nanosecond resolution temporal type 7 is not safely convertible to microseconds
#     [datetime.time(0, 0), datetime.time(0, 0)]
#     cast to string: ['00:00:00.000000007', '00:00:00.000000008']
#     cast to microseconds: ArrowInvalid
#     timestamp[ns]: ['1970-01-01 00:00:00.000000007', '1970-01-01 00:00:00.000000008']
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1
cat > "$folder/without.py" <<'PY'
import pyarrow as pa

try:
    print(pa.array([7, 8], pa.time64("ns")).to_pylist())
except ValueError as error:
    print(f"ValueError: {str(error).split(' to convert')[0]}")
else:
    raise SystemExit("no error")
PY
"$folder/env/bin/python" "$folder/without.py"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check pandas==3.1.1
cat > "$folder/with.py" <<'PY'
import datetime

import pyarrow as pa

times = pa.array([7, 8], pa.time64("ns"))
found = times.to_pylist()
print(found)
assert found == [datetime.time(0, 0)] * 2
texts = times.cast("string").to_pylist()
print(f"cast to string: {texts}")
assert texts == ["00:00:00.000000007", "00:00:00.000000008"]
try:
    times.cast(pa.time64("us"))
except pa.ArrowInvalid as error:
    print(f"cast to microseconds: {type(error).__name__}")
else:
    raise SystemExit("cast to microseconds: no error")
moments = [str(value) for value in pa.array([7, 8], pa.timestamp("ns")).to_pylist()]
print(f"timestamp[ns]: {moments}")
assert moments == ["1970-01-01 00:00:00.000000007", "1970-01-01 00:00:00.000000008"]
PY
"$folder/env/bin/python" "$folder/with.py"
