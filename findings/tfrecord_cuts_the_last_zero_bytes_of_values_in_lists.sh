#!/usr/bin/env bash
# tfrecord 1.14.6: where a feature has several byte strings, they come back without their last zero bytes.
#
# This package reads TFRecord files of tf.train.Example without TensorFlow. A feature with one byte string comes
# back as it is; one with several is put into a numpy array of dtype `bytes`, whose elements end before the zero
# bytes at their end. Keys packed as eight bytes, little end first, nearly always end with some: a row with one
# such id has all of it, a row with two has short ones, and those that differ in nothing but such bytes become
# one. `struct.unpack` and `np.frombuffer` refuse the short ones, but a table of keys only finds no row.
# Expected: the bytes that were written, as `tf.train.Example` itself gives them.
# Around it: `tfrecord_iterator` and `Example.FromString`, which have them whole, or int64 features.
#
# Seen on 2026-11-29 with tfrecord 1.14.6, numpy 2.4.6:
#     one value:    [b'\x07\x00\x00\x00\x00\x00\x00\x00']
#     two values:   [b'\x07', b'\x08']
#     of b'a' and b'a\x00': 1 distinct
#     in the file:  [b'\x07\x00\x00\x00\x00\x00\x00\x00', b'\x08\x00\x00\x00\x00\x00\x00\x00']
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    tfrecord==1.14.6 numpy==2.4.6 protobuf==7.36.2
cat > "$folder/show.py" <<'PY'
import os
import struct

import numpy as np
import tfrecord
from tfrecord import example_pb2

PATH = os.path.join(os.path.dirname(__file__), "rows.tfrecord")
SEVEN, EIGHT = struct.pack("<Q", 7), struct.pack("<Q", 8)

writer = tfrecord.TFRecordWriter(PATH)
for items in ([SEVEN], [SEVEN, EIGHT], [b"a", b"a\0"]):
    writer.write({"items": (items, "byte")})
writer.close()

one, two, alike = [
    np.atleast_1d(np.array(row["items"], object)).tolist()
    for row in tfrecord.tfrecord_loader(PATH, None, {"items": "byte"})
]
stored = [
    list(example_pb2.Example.FromString(bytes(record)).features.feature["items"].bytes_list.value)
    for record in tfrecord.tfrecord_iterator(PATH)
]
print(f"one value:    {one}")
print(f"two values:   {two}")
print(f"of b'a' and b'a\\x00': {len(set(alike))} distinct")
print(f"in the file:  {stored[1]}")
assert stored == [[SEVEN], [SEVEN, EIGHT], [b"a", b"a\0"]]
assert one == [SEVEN]
assert two == [b"\x07", b"\x08"]
assert alike == [b"a", b"a"]
PY
"$folder/env/bin/python" "$folder/show.py"
