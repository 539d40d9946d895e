#!/usr/bin/env bash
# A run begun at one end of the supported versions goes on at the other, and a bundle exported at one
# end is served at the other: both ways, on the flights data.
#
#   rehearsals/versions.sh       # OLD=... NEW=...: the Pythons of both environments
#
# The environments are those of `make test` (.venv, .venv-newest). Each run is stopped by SIGTERM in the
# midst of its supernet. Fails where it does not go on, where summary.json does not say which phase was
# trained under which versions, or where a score differs by more than 1e-5.
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
OLD="${OLD:-.venv/bin/python}" NEW="${NEW:-.venv-newest/bin/python}"
for python in "$OLD" "$NEW"; do
  "$python" -c 'import jax, platform; print("Python", platform.python_version(), "JAX", jax.__version__)'
done
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
export JAX_PLATFORMS=cpu PYTHONPATH=.
flags=(--flagfile=experiments/configs/demo.flags --epochs=2 --generations=2 --finalists=0
  --checkpoint_every=20 --data_dir="$folder/data")

# NAME BEGINS GOES_ON: a run that is stopped and goes on, and the bundle of it.
run() {
  local workdir="$folder/$1"
  "$2" -m experiments.pipeline "${flags[@]}" --workdir="$workdir" &
  local begun=$!
  until compgen -G "$workdir/supernet/checkpoints/*/manifest.json" >/dev/null; do
    kill -0 $begun || { echo "error: it ended before it was stopped" >&2; exit 1; }
    sleep 0.1
  done
  kill -TERM $begun
  wait $begun
  [ ! -e "$workdir/supernet/result.json" ] || { echo "error: it was stopped too late" >&2; exit 1; }
  "$3" -m experiments.pipeline "${flags[@]}" --workdir="$workdir"
  "$3" -m experiments.export --workdir="$workdir" --bundle="$workdir/bundle" --storage=int8 \
    --max_auc_drop=1 --sample="$workdir/rows.csv"
  for python in "$2" "$3"; do
    "$python" -m experiments.predict --bundle="$workdir/bundle" --input="$workdir/rows.csv" \
      --output="$workdir/scores-$([ "$python" = "$2" ] && echo begun || echo went_on).csv"
  done
  for python in "$2" "$3"; do
    "$python" - "$workdir" "$("$2" -c 'import jax; print(jax.__version__)')" \
      "$("$3" -c 'import jax; print(jax.__version__)')" <<'PY'
import csv
import json
import pathlib
import sys

import jax
import numpy as np

from optembed_jax.numpy_bundle import NumpyBundle

folder, begun, went_on = pathlib.Path(sys.argv[1]), *sys.argv[2:]
summary = json.loads((folder / "summary.json").read_text())
under = {
    phase: [versions["jax"] for versions in summary[phase]["versions"]]
    for phase in ("baseline", "supernet", "search", "retrain")
}
wanted = {"baseline": [begun], "supernet": [begun, went_on]} | dict.fromkeys(
    ("search", "retrain"), [went_on]
)
assert under == wanted, under


def scores(name):
    rows = csv.reader((folder / name).read_text().splitlines()[1:])
    return np.array([float(row[-1]) for row in rows])


with (folder / "rows.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
columns = {name: [row[name] for row in rows] for name in rows[0]}
here = NumpyBundle.load(folder / "bundle").predict(columns)
apart = max(
    np.abs(scores("scores-begun.csv") - scores("scores-went_on.csv")).max(),
    np.abs(here - scores("scores-went_on.csv")).max(),
)
assert len(here) > 100 and apart < 1e-5, apart
print(f"begun under JAX {begun}, ended under {went_on}: test AUC {summary['retrain']['test_auc']:.4f};")
print(f"{len(here)} scores of both, and of NumPy beside JAX {jax.__version__}, at most {apart:.1e} apart")
PY
  done
}

run up "$OLD" "$NEW"
run down "$NEW" "$OLD"
