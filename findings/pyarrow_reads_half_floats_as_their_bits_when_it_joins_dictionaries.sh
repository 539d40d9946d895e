#!/usr/bin/env bash
# pyarrow 26.0.1: joining chunks of coded 16-bit floats makes 11880.0 of 0.1, the number that its bits are.
#
# Where the chunks of a dictionary column have dictionaries of their own, combine_chunks, unify_dictionaries and
# concat_arrays put other values into the common one; its type stays halffloat, and nothing is said. Floats of 32
# bits, and chunks that share one dictionary, stay what they are.
# Expected: the values of the chunks.
# Who keeps bucketed numbers or scores as coded half floats, and looks a batch of several chunks up by value, finds
# other values or none; decode each chunk (dictionary_decode) before joining, as this project does.
#
# Seen on 2026-11-29 with pyarrow 26.0.1 and numpy 2.4.6:
#     before: [0.1, 0.25, 0.5, 0.1]
#     combine_chunks: halffloat [11880.0, 13312.0, 14336.0, 11880.0]
#     unify_dictionaries: halffloat [11880.0, 13312.0, 14336.0, 11880.0]
#     concat_arrays: halffloat [11880.0, 13312.0, 14336.0, 11880.0]
#     decoded, then combine_chunks: halffloat [0.1, 0.25, 0.5, 0.1]
#     of 32 bits, combine_chunks: float [0.1, 0.25, 0.5, 0.1]
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import numpy as np
import pyarrow as pa

PARTS = (0.1, 0.25), (0.5, 0.1)
GIVEN, BITS = [0.1, 0.25, 0.5, 0.1], [11880.0, 13312.0, 14336.0, 11880.0]


def coded(kind):
    return pa.chunked_array([pa.array(np.array(part, kind)).dictionary_encode() for part in PARTS])


def numbers(column):
    return [round(float(value), 3) for value in column.to_pylist()]


def told(name, column):
    kind = getattr(column.type, "value_type", column.type)
    print(f"{name}: {kind} {numbers(column)}")
    return str(kind), numbers(column)


half = coded(np.float16)
print(f"before: {numbers(half)}")
assert numbers(half) == GIVEN
for name in ("combine_chunks", "unify_dictionaries"):
    assert told(name, getattr(half, name)()) == ("halffloat", BITS)
assert told("concat_arrays", pa.concat_arrays(half.chunks)) == ("halffloat", BITS)
decoded = pa.chunked_array([chunk.dictionary_decode() for chunk in half.chunks])
assert told("decoded, then combine_chunks", decoded.combine_chunks()) == ("halffloat", GIVEN)
single = coded(np.float32).combine_chunks()
assert told("of 32 bits, combine_chunks", single) == ("float", GIVEN)
PY
"$folder/env/bin/python" "$folder/show.py"
