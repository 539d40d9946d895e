#!/usr/bin/env bash
# jax 0.10.2: one_hot of uint8 ids marks two places where there are more than 256, and id 3 reads row 259 too.
#
# "The element at index set to one", says its documentation. The ids are compared with the numbers of the places,
# which are counted in the ids' own type and so begin again at 0 after its last value: 256 of them in uint8 and
# int8, 65,536 in uint16 and int16. Ids of a field are often kept that small, a batch being mostly ids; where the
# table has more rows than the type has values (fields in one table, rows added later), a product of one-hot and
# table adds rows up, a loss over one-hot classes has several, and nothing is said. A gather by the same uint8 ids
# is right, and one by int8 ids is refused.
# Expected: one place an id, as for int32 ids, and as one_hot of TensorFlow 2.21.0 and Keras 3.15.1 give it for uint8.
# Around it: `one_hot(ids.astype(jnp.int32), rows)`.
#
# Seen on 2026-11-29 with jax 0.10.2 on a CPU, and the same with 0.12.0.1:
#     id 3 of 300, uint8: marks [3, 259], reads 262.0
#     id 3 of 300, int8: marks [3, 259], reads 262.0
#     id 3 of 300, int32: marks [3], reads 3.0
#     id 3 of 70000, uint16: marks [3, 65539], reads 65542.0
#     id 3 of 70000, int32: marks [3], reads 3.0
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import jax
import jax.numpy as jnp
import numpy as np


def seen(rows, dtype):
    """Which places id 3 marks, and what it reads of a table in whose row r stands r."""
    table = jnp.arange(rows, dtype=jnp.float32)[:, None]
    ids = jnp.array([3], dtype)
    marked = jax.nn.one_hot(ids, rows)
    places, read = np.flatnonzero(marked[0]).tolist(), float((marked @ table)[0, 0])
    print(f"id 3 of {rows}, {dtype.__name__}: marks {places}, reads {read}")
    if dtype is not jnp.int8:
        assert float(table[ids][0, 0]) == 3.0, "a gather reads one row"
    return places, read


assert seen(300, jnp.uint8) == ([3, 259], 262.0)
assert seen(300, jnp.int8) == ([3, 259], 262.0)
assert seen(300, jnp.int32) == ([3], 3.0)
assert seen(70_000, jnp.uint16) == ([3, 65_539], 65_542.0)
assert seen(70_000, jnp.int32) == ([3], 3.0)
PY
"$folder/env/bin/python" "$folder/show.py"
