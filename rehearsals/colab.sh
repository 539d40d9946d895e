#!/usr/bin/env bash
# The notebook in a stand-in for Colab's runtime: its versions (colab.txt) in an environment of its
# own, the project installed as the notebook's text says, all cells run from top to bottom.
#
#   rehearsals/colab.sh          # PYTHON=python3.12 for another interpreter
#
# Fails where the installation changes any package that was there (JAX and the plugin of its
# accelerator among them), where pip finds a conflict, or where a cell ends with an error. What is
# committed is what is installed. There is no GPU in it: the plugin is there, and finds none.
set -euo pipefail
root="$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/project" "$folder/home"
git -C "$root" archive HEAD | tar -x -C "$folder/project"

"${PYTHON:-python3.13}" -m venv "$folder/env"
python="$folder/env/bin/python"
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install --requirement "$root/rehearsals/colab.txt" ipykernel nbclient
pip freeze >"$folder/before"
pip install "$folder/project" # As in the notebook's first cell: no extras, no constraints.
pip freeze | grep -v '^optembed-jax' >"$folder/after"
if changed="$(grep -vxFf "$folder/after" "$folder/before")"; then
  printf 'error: the installation changed what was there:\n%s\n' "$changed" >&2
  exit 1
fi
pip check
echo "unchanged: $(grep -E '^(jax|numpy|flax|pyarrow|orbax)' "$folder/before" | tr '\n' ' ')"
echo "added: $(grep -vxFf "$folder/before" "$folder/after" | tr '\n' ' ')"

cat >"$folder/run.py" <<'PY'
"""Runs a notebook in a kernel of this environment, and prints what its cells print."""

import sys
import time

import nbclient
import nbformat

notebook = nbformat.read(sys.argv[1], as_version=4)
started = time.monotonic()
nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        print(output.get("text", ""), end="")
cells = sum(cell.cell_type == "code" for cell in notebook.cells)
print(f"{cells} cells in {time.monotonic() - started:.0f} s")
PY
# What is prepared lies in the home folder, and goes with it.
cd "$folder/home"
HOME="$folder/home" "$python" "$folder/run.py" "$folder/project/experiments/colab/quickstart.ipynb"
