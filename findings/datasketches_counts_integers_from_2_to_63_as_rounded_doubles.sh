#!/usr/bin/env bash
# datasketches 5.2.0: HLL and theta count 100,000 ids from 2^63 on as some 50, for they take them as doubles.
#
# `update` of these sketches has a form for int64, one for double and one for str; an integer that int64 cannot hold
# falls to the one for doubles, and 2,048 neighbours become one. CTR features are often keyed by a field's number in
# the high bits and the value's below: with 16 fields in 4 bits, all values of the second half of the fields are
# concerned. Whoever sizes a table by the estimate has a fraction of the rows. The CPC sketch of the same package has
# uint64 in place of int64 and counts these right, but rounds large negative ones.
# Expected: each integer as one value, or an error, as count_min_sketch gives for what is too large.
# Around it: `str(key)`.
#
# Seen on 2026-11-29 with datasketches 5.2.0, numpy 2.4.6; 100,000 values of one field each:
#     field 7 of 16: hll 98878, theta 101067, cpc 100248
#     field 8 of 16: hll 50, theta 50, cpc 97916
#     field 8 of 16, less 2^64: hll 97058, theta 98795, cpc 99
#     field 8 of 16, as texts: hll 102475, theta 99350, cpc 101268
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check datasketches==5.2.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import datasketches

VALUES = 100_000
SKETCHES = {
    "hll": lambda: datasketches.hll_sketch(12),
    "theta": lambda: datasketches.update_theta_sketch(),
    "cpc": lambda: datasketches.cpc_sketch(11),
}


def estimates(what, keys):
    counted = {}
    for name, make in SKETCHES.items():
        sketch = make()
        for key in keys:
            sketch.update(key)
        counted[name] = round(sketch.get_estimate())
    print(f"{what}:", ", ".join(f"{name} {count}" for name, count in counted.items()))
    return counted


def near(count):
    return abs(count - VALUES) < 0.1 * VALUES


keys = {field: [field << 60 | value for value in range(VALUES)] for field in (7, 8)}
below = estimates("field 7 of 16", keys[7])
above = estimates("field 8 of 16", keys[8])
signed = estimates("field 8 of 16, less 2^64", [key - 2**64 for key in keys[8]])
texts = estimates("field 8 of 16, as texts", [str(key) for key in keys[8]])
assert all(near(count) for count in [*below.values(), *texts.values(), signed["hll"], signed["theta"], above["cpc"]])
assert above["hll"] < 100 and above["theta"] < 100 and signed["cpc"] < 200
PY
"$folder/env/bin/python" "$folder/show.py"
