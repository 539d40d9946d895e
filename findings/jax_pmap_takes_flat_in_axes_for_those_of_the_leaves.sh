#!/usr/bin/env bash
# jax 0.10.2: pmap gives in_axes to the wrong arrays where there are as many leaves as arguments.
#
# `in_axes=(None, None, 0, None)` says of four arguments that the third is split over the devices. An
# argument may be a tree: of several arrays, or of none, as the statistics of a model without batch
# normalisation are. Where all arguments together happen to have as many arrays as there are
# arguments, the four are taken for those of the four arrays in their order, so that another array
# is split, or none. A factorisation machine evaluated by (params, batch_stats, ids, frozen) is such
# a case: three arrays of parameters, no statistics, ids, nothing frozen.
# Expected: in_axes is a prefix of the arguments' tree, as the documentation of pmap says and as it is
# for any other number of arrays.
#
# Seen on 2026-11-29 with jax 0.10.2, and the same with 0.12.0.1; four CPU devices:
#     one array of statistics: (4, 3)
#     none: IndexError
#     another array split: [0.0, 1.0, 2.0, 3.0] instead of [6.0, 6.0, 6.0, 6.0]
# A tuple within the tuple, `in_axes=(0, (None, None, None))`, is read as it should be.
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax
import jax.numpy as jnp

params = (jnp.zeros((9, 4)), jnp.zeros(9), jnp.zeros(()))  # Rows, linear weights, bias.
ids = jnp.ones((4, 3))
score = jax.pmap(
    lambda params, stats, ids, frozen: ids + params[2], in_axes=(None, None, 0, None)
)
with_statistics = score(params, {"mean": jnp.zeros(4)}, ids, None).shape
try:
    without = score(params, {}, ids, None).shape
except IndexError as error:
    without = type(error).__name__
print("one array of statistics:", with_statistics)
print("none:", without)

# The sum of an array that no device is to have less than all of.
total = jax.pmap(
    lambda stats, ids, params: params["a"].sum() + 0 * ids.sum() + 0 * params["b"],
    in_axes=(None, 0, None),
)
whole = {"a": jnp.arange(4.0), "b": jnp.zeros(())}
found = total({}, jnp.ones((4, 3)), whole).tolist()
print("another array split:", found, "instead of [6.0, 6.0, 6.0, 6.0]")

nested = jax.pmap(
    lambda ids, read: ids + read[0][2], in_axes=(0, (None, None, None))
)
assert nested(ids, (params, {}, None)).shape == (4, 3)
assert with_statistics == (4, 3)
assert without == "IndexError"
assert found == [0.0, 1.0, 2.0, 3.0]
PY
"$folder/env/bin/python" "$folder/show.py"
