#!/usr/bin/env bash
# Makes a spot TPU VM (or a slice of several), installs the project on every worker, and runs the
# pipeline on all of them. The same command again goes on where a preempted run stopped.
#
#   TPU=optembed ZONE=us-west4-a experiments/cloud/launch_tpu_vm.sh \
#       --flagfile=experiments/configs/demo.flags --workdir=gs://BUCKET/runs/demo
#
# TYPE and VERSION name the TPU and its image: v2-alpha-tpuv5-lite for v5e, v2-alpha-tpuv5 for v5p,
# v2-alpha-tpuv6e for v6e, tpu-ubuntu2204-base for v4 and older. Their Python is 3.10 (Ubuntu 22.04),
# too old for JAX of today, so uv brings one. TPU7x and later are had by GKE alone (jobset.yaml).
#
# With SHARED=HOST:/EXPORT an NFS export is mounted on every worker as /mnt/shared, for a --workdir
# or a --data_dir there.
set -euo pipefail

: "${TPU:?name of the TPU}" "${ZONE:?its zone}"
SHARED="${SHARED:-}"
TYPE="${TYPE:-v5litepod-8}"
VERSION="${VERSION:-v2-alpha-tpuv5-lite}"
[ $# -gt 0 ] || { echo "error: say what to run: flags of experiments.pipeline" >&2; exit 2; }

on_all() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

state="$(gcloud compute tpus tpu-vm describe "$TPU" --zone="$ZONE" --format='value(state)' 2>/dev/null || true)"
if [ "$state" = PREEMPTED ] || [ "$state" = TERMINATED ]; then
  gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE" --quiet
  state=""
fi
if [ -z "$state" ]; then
  gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" --accelerator-type="$TYPE" \
    --version="$VERSION" --spot
fi

root="$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
archive="$(mktemp)"
trap 'rm -f "$archive"' EXIT
git -C "$root" archive --format=tar.gz HEAD >"$archive"
gcloud compute tpus tpu-vm scp "$archive" "$TPU:optembed.tar.gz" --zone="$ZONE" --worker=all
on_all "mkdir -p optembed && tar -xzf optembed.tar.gz -C optembed \
  && sudo apt-get install --yes nfs-common python3-venv && cd optembed \
  && python3 -m venv .uv && .uv/bin/pip install --quiet uv \
  && .uv/bin/uv venv --quiet --clear --python=3.13 .venv \
  && .uv/bin/uv pip install --quiet --constraint constraints-newest.txt '.[tpu,gcp]'"
if [ -n "$SHARED" ]; then
  on_all "sudo mkdir -p /mnt/shared \
    && (mountpoint -q /mnt/shared || sudo mount -t nfs '$SHARED' /mnt/shared)"
fi
printf -v flags '%q ' "$@"
on_all "cd optembed && .venv/bin/python -m experiments.pipeline $flags"
