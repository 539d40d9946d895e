#!/usr/bin/env bash
# ray 2.60.0: ray.init() replaces the SIGTERM handler of the program that calls it, for good.
#
# Jobs on machines that may be taken away put a handler on SIGTERM, to save where they are and end.
# A program that calls `ray.init()` afterwards has another handler than its own, without a word, and
# `ray.shutdown()` does not put it back: the signal that should have saved a checkpoint ends the
# process. Expected: a library leaves a handler that its caller has set, or calls it.
#
# Seen on 2026-11-28 with ray 2.60.0, Python 3.11:
#     before: True  after init: False  after shutdown: False
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check ray==2.60.0
cat > "$folder/show.py" <<'PY'
import signal
import sys

import ray


def save_and_end(number, frame):
    sys.exit(0)


def ours():
    return signal.getsignal(signal.SIGTERM) is save_and_end


signal.signal(signal.SIGTERM, save_and_end)
before = ours()
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
begun = ours()
ray.shutdown()
print(f"before: {before}  after init: {begun}  after shutdown: {ours()}")
assert before and not begun and not ours()
PY
RAY_USAGE_STATS_ENABLED=0 "$folder/env/bin/python" "$folder/show.py" 2>"$folder/log" \
    || { cat "$folder/log" >&2; exit 1; }
