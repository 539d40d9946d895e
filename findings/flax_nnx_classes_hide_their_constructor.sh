#!/usr/bin/env bash
# flax 0.12.8: `inspect.signature` of an nnx.Module's class says (*args, **kwargs), whatever it takes.
#
# The metaclass defines __call__, which `inspect` asks before __init__. So a library that hands a
# user's module the settings it names, a form made of its parameters, and an editor's help see nothing;
# of a Linen module and of any plain class they see all. `inspect.signature(Module.__init__)` is right.
# Expected: the parameters of the constructor.
#
# Seen on 2026-11-28 with flax 0.12.8, jax 0.10.2:
#     nnx class:   (*args: 'Any', **kwargs: 'Any') -> 'Any'
#     its init:    (self, width: int, *, rngs)
#     Linen class: ['width', 'parent', 'name']
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    flax==0.12.8 jax==0.10.2 jaxlib==0.10.2
cat > "$folder/show.py" <<'PY'
import inspect

import flax.linen as nn
from flax import nnx


class Tower(nnx.Module):
    def __init__(self, width: int, *, rngs):
        self.kernel = nnx.Param(rngs.params.normal((width,)))


class LinenTower(nn.Module):
    width: int


print("nnx class:  ", inspect.signature(Tower))
print("its init:   ", inspect.signature(Tower.__init__))
print("Linen class:", list(inspect.signature(LinenTower).parameters))
assert "width" not in inspect.signature(Tower).parameters
assert "width" in inspect.signature(Tower.__init__).parameters
assert "width" in inspect.signature(LinenTower).parameters
PY
JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/show.py"
