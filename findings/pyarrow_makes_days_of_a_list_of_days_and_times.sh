#!/usr/bin/env bash
# pyarrow 26.0.1: a list that begins with a date loses the time of day of the datetimes after it.
#
# `pa.array` infers one type for a list. Of a date and a datetime it infers date32, and the datetime's
# hours and minutes are dropped without a word; the other way round it refuses the date. A service that
# puts the cells of one column together from two sources (a day typed by hand, a time stamp from a log)
# so scores another value than the model was trained on, or not, by which row comes first.
# Expected: an error in both orders, as for an integer and a text, or a timestamp that keeps both.
#
# Seen on 2026-11-28 with pyarrow 26.0.1 (see the output of this script).
# Around it: one text for each value before Arrow sees them, as this project does (values/text.py).
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1
cat > "$folder/show.py" <<'PY'
import datetime
import sys

import pyarrow as pa

day, moment = datetime.date(2024, 3, 1), datetime.datetime(2024, 3, 2, 15, 30)
found = pa.array([day, moment])
print(f"[date, datetime] becomes {found.type}: {found.to_pylist()}")
try:
    other = pa.array([moment, day])
    print(f"[datetime, date] becomes {other.type}: {other.to_pylist()}")
except (pa.ArrowInvalid, TypeError) as error:
    print(f"[datetime, date] is refused: {type(error).__name__}: {error}")
if found.type != pa.date32() or found[1].as_py() != datetime.date(2024, 3, 2):
    sys.exit("the time of day is kept or refused: this has changed")
PY
"$folder/env/bin/python" "$folder/show.py"
