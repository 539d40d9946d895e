#!/usr/bin/env bash
# orbax-checkpoint 0.12.8, v1 API: a dataclass comes back with the static fields of the template.
#
# `ocp.save` writes the arrays of a pytree and not what JAX calls its static (meta) fields; `ocp.load`
# puts the arrays into the abstract tree it is given, whose static fields win. Nothing compares them:
# an index of a table saved with the widths (4, 2) is read as one of (2, 4), and every later lookup is
# wrong without an error. The shapes of arrays are compared, and so one trusts the rest to be.
# Expected: the static fields that were saved, or an error.
#
# Seen on 2026-11-28 with orbax-checkpoint 0.12.8, jax 0.10.2:
#     saved (4, 2), asked for (2, 4): (2, 4)
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2
cat > "$folder/show.py" <<'PY'
import dataclasses
import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp


@functools.partial(jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["widths"])
@dataclasses.dataclass
class Index:
    rows: jax.Array
    widths: tuple


saved = Index(jnp.arange(3), (4, 2))
path = pathlib.Path(sys.argv[1]) / "state"
ocp.save(path, saved)
asked = jax.eval_shape(lambda: Index(jnp.arange(3), (2, 4)))
found = ocp.load(path, asked)
print(f"saved {saved.widths}, asked for {asked.widths}: {found.widths}")
assert found.widths == (2, 4)
assert found.rows.tolist() == [0, 1, 2]
PY
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/show.py" "$folder" 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
