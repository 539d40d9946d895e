#!/usr/bin/env bash
# optax 0.2.8: after one NaN gradient, MultiSteps accumulates NaN for good, whatever the optimizer does.
#
# "The wrapper's accumulated gradients are then set back to zero", says its documentation; they are
# multiplied by zero, and zero times NaN is NaN. Who guards the optimizer within against a bad batch
# (`zero_nans`, `apply_if_finite`) then sees no error: with the one, a weight that met a NaN is never
# updated again, with the other every update is refused until it gives up and writes NaN in.
# Without MultiSteps both recover with the next batch.
# Expected: what the documentation says.
# Around it: `should_skip_update_fn=optax.skip_not_finite`, or the guard around MultiSteps.
#
# Seen on 2026-11-29 with optax 0.2.8, jax 0.10.2; gradients of 1, SGD with a rate of 1, 24 batches of
# which the second has a NaN for the second weight; an update every 2 batches:
#     no MultiSteps, zero_nans: [-24. -23.]
#     MultiSteps, zero_nans: [-12.   0.]
#     no MultiSteps, apply_if_finite: [-23. -23.]
#     MultiSteps, apply_if_finite: [-7. nan]
#     MultiSteps, skip_not_finite: [-11. -11.]
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import jax.numpy as jnp
import numpy as np
import optax

BATCHES, BAD = 24, 1


def weights(optimizer):
    """Two weights after all batches; one batch has a NaN for the second of them."""
    params = jnp.zeros(2)
    state = optimizer.init(params)
    for batch in range(BATCHES):
        gradient = jnp.array([1.0, jnp.nan if batch == BAD else 1.0])
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return np.array(params)


def zeroed():
    return optax.chain(optax.zero_nans(), optax.sgd(1.0))


def refused():
    return optax.apply_if_finite(optax.sgd(1.0), max_consecutive_errors=5)


def told(name, optimizer):
    found = weights(optimizer)
    print(f"{name}: {found}")
    return found.tolist()


assert told("no MultiSteps, zero_nans", zeroed()) == [-24, -23]
stopped = told("MultiSteps, zero_nans", optax.MultiSteps(zeroed(), 2))
assert told("no MultiSteps, apply_if_finite", refused()) == [-23, -23]
broken = told("MultiSteps, apply_if_finite", optax.MultiSteps(refused(), 2))
skipping = optax.MultiSteps(optax.sgd(1.0), 2, should_skip_update_fn=optax.skip_not_finite)
assert told("MultiSteps, skip_not_finite", skipping) == [-11, -11]
assert stopped == [-12, 0], "one weight is never updated"
assert np.isnan(broken[1])
PY
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/show.py"
