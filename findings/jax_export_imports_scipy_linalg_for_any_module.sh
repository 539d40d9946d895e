#!/usr/bin/env bash
# jax 0.10.2: the first call of an exported module, whatever is in it, imports scipy.linalg: 15 MB that a server keeps.
#
# A module of `jax.export` that adds one to its argument is read and called. The same function under `jit` imports nothing
# of SciPy's linear algebra; the call of the module does, since it has the CPU's LAPACK functions registered in case the
# module calls one, and those are taken from SciPy's. So a process that serves a small model takes longer to its
# first answer and holds more than its imports had told: the memory of a server is measured once it has answered.
# Expected: as under `jit`, LAPACK where there is something to factorise.
# Around it: nothing but to know. `import scipy.linalg` beside the other imports brings it forward, out of the first call.
#
# Seen on 2026-11-30 with jax 0.10.2 and SciPy 1.17.1 on x86-64 Linux:
#     jit: 2.0, of SciPy's linear algebra nothing
#     exported, called: 2.0, scipy.linalg is imported
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 \
    numpy==2.4.6 scipy==1.17.1 flatbuffers==25.12.19
cat > "$folder/show.py" <<'PY'
import sys

import jax
import jax.numpy as jnp
from jax import export


def resident():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * 4096 / 2**20


function = jax.jit(lambda x: x + 1)
print(f"jit: {float(function(jnp.float32(1)))}, of SciPy's linear algebra nothing")
assert "scipy.linalg" not in sys.modules
written = export.export(function, platforms=("cpu",))(jax.ShapeDtypeStruct((), jnp.float32)).serialize()
module = export.deserialize(written)
assert "scipy.linalg" not in sys.modules
before = resident()
print(f"exported, called: {float(module.call(jnp.float32(1)))}, scipy.linalg is imported")
print(f"(the call took {resident() - before:.0f} MB)")
assert "scipy.linalg" in sys.modules
PY
"$folder/env/bin/python" "$folder/show.py"
