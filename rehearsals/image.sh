#!/usr/bin/env bash
# experiments/cloud/Dockerfile: built by docker, and the pipeline run in it on the flights data. Where
# no docker daemon answers, by a stand-in: its instructions, read from the file, are carried out in an
# environment of the Python that it is FROM.
#
#   rehearsals/image.sh          # PYTHON=... for the stand-in's interpreter
#
# What is committed is copied, but for what .dockerignore leaves out. JAX runs on the CPU.
set -euo pipefail
root="$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/app"
git -C "$root" archive HEAD | tar -x -C "$folder/app"
file="$folder/app/experiments/cloud/Dockerfile"
flags=(--flagfile=experiments/configs/demo.flags --epochs=1 --generations=1)

if docker info >/dev/null 2>&1; then
  docker build --file "$file" --tag optembed-jax-rehearsal "$folder/app"
  docker run --rm --env JAX_PLATFORMS=cpu optembed-jax-rehearsal "${flags[@]}" \
    --workdir=/tmp/run --data_dir=/tmp/data
  docker image rm optembed-jax-rehearsal
  exit
fi

echo "no docker daemon: a stand-in"
field() { sed -n "s/^$1 //p" "$file"; }
version="$(field FROM | sed -n 's/^python:\([0-9.]*\)-slim$/\1/p')"
"${PYTHON:-python$version}" -m venv "$folder/env"
"$folder/env/bin/python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' \
  "$version"
[ "$(field WORKDIR)" = /app ] && [ "$(field COPY)" = ". ." ]
cd "$folder/app"
while read -r name; do
  case "$name" in '' | '#'* | '**'*) ;; *) rm -rf "./$name" ;; esac
done <.dockerignore
export PATH="$folder/env/bin:$PATH" JAX_PLATFORMS=cpu
bash -euc "$(field RUN)"
pip check
readarray -t entrypoint < <(field ENTRYPOINT | python -c 'import json; print(*json.loads(input()), sep="\n")')
"${entrypoint[@]}" "${flags[@]}" --workdir="$folder/run" --data_dir="$folder/data"
python -c 'import importlib.metadata as m; print(*(f"{n} {m.version(n)}" for n in ("jax", "libtpu", "gcsfs")))'
