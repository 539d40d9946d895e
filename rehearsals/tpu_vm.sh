#!/usr/bin/env bash
# experiments/cloud/launch_tpu_vm.sh against a stand-in for a TPU VM: a folder for the worker's home,
# whose python3 is 3.10 as in Google's images, and a gcloud that carries out here what it is asked.
#
#   rehearsals/tpu_vm.sh         # IMAGE_PYTHON=/usr/bin/python3.10 where that is not on the path
#
# uv fetches Python 3.13 from GitHub, and takes one that is on the path: put one there where GitHub
# cannot be reached.
#
# Everything else is real: what is committed is sent, uv brings Python 3.13 (where none is found), the
# newest tested versions are installed with the extras tpu and gcp, and the pipeline runs on the
# flights data. Not real: the machine, so JAX runs on its CPU (JAX_PLATFORMS=cpu), and apt-get, which
# is left out.
set -euo pipefail
root="$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
image="$("${IMAGE_PYTHON:-python3.10}" -c 'import sys, venv; print(sys.executable)')"
"$image" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' ||
  { echo "error: $image is not Python 3.10, which the images have" >&2; exit 1; }
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin" "$folder/home"
ln -s "$image" "$folder/bin/python3"
cat >"$folder/bin/sudo" <<'SH'
#!/bin/bash
echo "left out: $*"
SH
cat >"$folder/bin/gcloud" <<'SH'
#!/bin/bash
# gcloud compute tpus tpu-vm VERB ...
set -euo pipefail
case "$4" in
  describe) ;; # There is none yet.
  create) echo "stand-in: $*" ;;
  scp) cp "$5" "$WORKER/${6#*:}" ;;
  ssh)
    command="${!#}"
    cd "$WORKER"
    HOME="$WORKER" bash -c "${command#--command=}"
    ;;
  *)
    echo "error: the stand-in knows no $4" >&2
    exit 2
    ;;
esac
SH
chmod +x "$folder/bin/sudo" "$folder/bin/gcloud"
PATH="$folder/bin:$PATH" WORKER="$folder/home" JAX_PLATFORMS=cpu TPU=stand-in ZONE=nowhere \
  "$root/experiments/cloud/launch_tpu_vm.sh" --flagfile=experiments/configs/demo.flags \
  --epochs=1 --generations=1 --workdir="$folder/home/run" --data_dir="$folder/home/data"

cd "$folder/home/optembed"
.venv/bin/python - "$folder/home/run/summary.json" constraints-newest.txt <<'PY'
import importlib.metadata
import json
import pathlib
import sys

summary = json.loads(pathlib.Path(sys.argv[1]).read_text())
pinned = dict(line.split("==") for line in open(sys.argv[2]).read().split() if "==" in line)
found = {name: summary["versions"][name] for name in ("jax", "flax", "numpy", "orbax-checkpoint")}
assert found == {name: pinned[name] for name in found}, found
print(f"Python {summary['versions']['python']}, {found}, libtpu", importlib.metadata.version("libtpu"))
PY
