#!/usr/bin/env bash
# flax 0.12.8: Embed(dtype=bfloat16) keeps float32 rows and loses most of the gradient of frequent ids.
#
# `dtype` is for computing, `param_dtype` (float32) for what is trained. But Embed casts the whole table
# before it looks rows up, so that the gradients of one id's many places in a batch are added up in
# bfloat16, one after another, and only their sum is cast to float32. From 256 equal ones on, adding one
# more changes nothing. In CTR batches of thousands such ids are the rule (a device type, a missing value).
# Nothing tells: the gradient is of float32 and finite. Dense over one-hot ids, same types, is right.
# Expected: sums in float32, as matrix products and `jnp.sum` of bfloat16 do in JAX.
# Around it: look up in float32, then cast the looked-up rows: `Embed(...)(ids).astype(jnp.bfloat16)`.
#
# Seen on 2026-11-29 with flax 0.12.8, jax 0.10.2 on a CPU, Linen and nnx alike; one id in half of the
# places, the gradient of its row under the mean log loss:
#     256 rows: 0.2383 in float32, 0.2383 in bfloat16
#     1024 rows: 0.2393 in float32, 0.1250 in bfloat16
#     4096 rows: 0.2400 in float32, 0.0312 in bfloat16
#     16384 rows: 0.2400 in float32, 0.0078 in bfloat16
#     16384 rows by Dense in bfloat16: 0.2402; rows looked up and then cast: 0.2400
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 optax==0.2.8 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx

ZEROS = nn.initializers.zeros


def batch(rows):
    """Ids 0 and 1 by turns; a click in every 50th row of each."""
    place = jnp.arange(rows)
    return place % 2, (place // 2 % 50 == 0).astype(jnp.float32)


def log_loss(score, clicks):
    return optax.sigmoid_binary_cross_entropy(score[:, 0].astype(jnp.float32), clicks).mean()


def of_linen(layer, inputs, clicks, cast=lambda rows: rows):
    params = layer.init(jax.random.key(0), inputs)
    found = jax.jit(
        jax.grad(lambda tree: log_loss(cast(layer.apply(tree, inputs)), clicks))
    )(params)
    (weights,) = jax.tree.leaves(found)
    assert weights.dtype == jnp.float32
    return float(weights[0, 0])


def of_nnx(dtype, ids, clicks):
    layer = nnx.Embed(2, 1, dtype=dtype, embedding_init=ZEROS, rngs=nnx.Rngs(0))
    found = nnx.jit(nnx.grad(lambda layer: log_loss(layer(ids), clicks)))(layer)
    return float(found["embedding"][...][0, 0])


full, half = {}, {}
for rows in (256, 1024, 4096, 16384):
    ids, clicks = batch(rows)
    full[rows] = of_linen(nn.Embed(2, 1, embedding_init=ZEROS), ids, clicks)
    half[rows] = of_linen(nn.Embed(2, 1, dtype=jnp.bfloat16, embedding_init=ZEROS), ids, clicks)
    assert abs(of_nnx(jnp.bfloat16, ids, clicks) - half[rows]) < 1e-3
    print(f"{rows} rows: {full[rows]:.4f} in float32, {half[rows]:.4f} in bfloat16")

dense = nn.Dense(1, use_bias=False, dtype=jnp.bfloat16, kernel_init=ZEROS)
by_product = of_linen(dense, jax.nn.one_hot(ids, 2), clicks)
late = of_linen(
    nn.Embed(2, 1, embedding_init=ZEROS), ids, clicks, lambda rows: rows.astype(jnp.bfloat16)
)
print(f"{rows} rows by Dense in bfloat16: {by_product:.4f}; rows looked up and then cast: {late:.4f}")
assert abs(half[256] - full[256]) < 0.02
assert 0.2 < full[16384] < 0.26
assert half[16384] < full[16384] / 20
assert abs(by_product - full[16384]) < 0.01
assert abs(late - full[16384]) < 0.01
PY
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/show.py"
