#!/usr/bin/env bash
# etils 1.15.0 with tensorflow-datasets 4.9.10: while one thread imports tensorflow_datasets, `import` of all others is another one.
#
# `etils.epy.lazy_imports()` puts a function of its own in the place of `builtins.__import__`, which is one for the whole
# process, and tensorflow_datasets imports parts of itself so. What another thread imports meanwhile, at whatever place, gets a
# stand-in instead of a module, or an error where a module of the package it imports says `from . import`. A module that was
# half imported by then stays broken: in our trials JAX had no `jax.core` in such a process from then on. Two threads whose
# first calls import what they need are enough, one of them tensorflow_datasets.
# Expected: that a context manager of one thread leaves the imports of another alone.
# Around it: import tensorflow_datasets before there are threads, or under one lock with all other first imports.
#
# Seen on 2026-11-30 with etils 1.15.0 and tensorflow-datasets 4.9.10 under Python 3.11:
#     import tensorflow_datasets: __import__ is another one at some calls
#     another thread, meanwhile: colorsys is a LazyModule
#     another thread, meanwhile: a package, ValueError: Relative import statements not supported
#     afterwards: colorsys is a module
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check tensorflow-datasets==4.9.10 etils==1.15.0
mkdir "$folder/parcel"
echo "from . import inner" > "$folder/parcel/__init__.py"
echo "value = 1" > "$folder/parcel/inner.py"
cat > "$folder/show.py" <<'PY'
import builtins
import importlib
import sys
import threading

own, others = builtins.__import__, 0


def look(*_):
    global others
    others += builtins.__import__ is not own


sys.setprofile(look)
import tensorflow_datasets  # noqa: E402

sys.setprofile(None)
assert others and builtins.__import__ is own
print("import tensorflow_datasets: __import__ is another one at some calls")

from etils import epy  # noqa: E402

said = []


def elsewhere():
    import colorsys

    said.append(f"colorsys is a {type(colorsys).__name__}")
    try:
        importlib.import_module("parcel")
    except ValueError as error:
        said.append(f"a package, ValueError: {str(error).partition(' (')[0]}")


with epy.lazy_imports():  # This thread imports nothing in it.
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
for line in said:
    print(f"another thread, meanwhile: {line}")
import colorsys  # noqa: E402

print(f"afterwards: colorsys is a {type(colorsys).__name__}")
assert said == [
    "colorsys is a LazyModule",
    "a package, ValueError: Relative import statements not supported",
], said
assert type(colorsys).__name__ == "module"
PY
"$folder/env/bin/python" "$folder/show.py"
