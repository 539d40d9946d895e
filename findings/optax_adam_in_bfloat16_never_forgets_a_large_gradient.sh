#!/usr/bin/env bash
# optax 0.2.8: Adam on bfloat16 parameters keeps its second moment up for good; later steps are 65 times too small.
#
# The moments have the parameters' type, and the second is multiplied by b2 in it: 0.999 in bfloat16 is 1. So the
# mean of squared gradients over some 1,000 steps is a sum that never falls, and every row that once had large
# gradients, as all have at the start, learns far slower than asked for. Nothing tells: all is finite, and the loss
# falls. float16, with three bits more, comes down to twice the root; `mu_dtype` sets the type of the first moment
# only, and the documentation of Adam speaks of no other. The same with adamw, and with rmsprop(decay=0.999).
# Expected: values of the right size, or a moment in float32.
# Around it: parameters in float32 that are cast where they are used, or b2 = 0.99 (0.98828 in bfloat16).
#
# Seen on 2026-11-29 with optax 0.2.8, jax 0.10.2 on a CPU; gradients of 1 for 500 steps, then of 0.01 for 10,000;
# the root of the second moment, which should be near 0.01, and the last step under a rate of 0.01:
#     float32: 0.0109, step -0.00921
#     float16: 0.0191, step -0.00524
#     bfloat16: 0.7071, step -0.00014
#     bfloat16, b2 of 0.99: 0.0111, step -0.00891
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import jax
import jax.numpy as jnp
import optax


def after(what, dtype, b2=0.999):
    """The root of the second moment, and the last step."""
    adam = optax.adam(0.01, b2=b2)
    step = jax.jit(adam.update)
    state = adam.init(jnp.ones(1, dtype))
    for number in range(10_500):
        updates, state = step(jnp.full(1, 1.0 if number < 500 else 0.01, dtype), state)
    root, last = float(state[0].nu[0]) ** 0.5, float(updates[0])
    print(f"{what}: {root:.4f}, step {last:.5f}")
    return root, last


whole, half = after("float32", jnp.float32), after("float16", jnp.float16)
brain = after("bfloat16", jnp.bfloat16)
shorter = after("bfloat16, b2 of 0.99", jnp.bfloat16, b2=0.99)
assert whole[0] < 0.012 and half[0] < 0.03 and shorter[0] < 0.02
assert brain[0] > 0.5 and whole[1] / brain[1] > 50
PY
"$folder/env/bin/python" "$folder/show.py"
