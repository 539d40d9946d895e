"""Whole runs in a bucket, against the same runs in a file system."""

import json
import subprocess
import sys

from small_run import SEARCHED

MAINS = """
import json, pathlib, sys
import fsspec
from experiments.run import cli
from experiments.run import runs
from experiments import export, predict

def start(main, *arguments):
    sys.argv = ["main", *arguments]
    from absl import flags
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    try:
        cli.run(main)
    except SystemExit as exit:
        assert not exit.code, exit.code

here, there, flags_of_data, flags_of_run = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
for place in (here, there):
    start(runs.pipeline_main, flags_of_data, f"--workdir={place}/run", *flags_of_run)
    start(export.main, flags_of_data, f"--workdir={place}/run", f"--bundle={place}/bundle",
          f"--sample={here}/rows.csv")
    start(predict.main, f"--bundle={place}/bundle", f"--input={here}/rows.csv",
          f"--output={here}/scores-{'gs' if place == there else 'fs'}.csv")
# The run is finished: the same command finds everything so.
start(runs.pipeline_main, flags_of_data, f"--workdir={there}/run", *flags_of_run)
bucket = fsspec.filesystem("gcs")
bucket.get(there, f"{here}/copy", recursive=True)
"""
FLAGS = {
    **SEARCHED,
    "model": "fm",
    "epochs": 1,
    "generations": 1,
    "max_table_parameters": 40,
    "finalists": False,
    "checkpoint_every": 3,
}


def outcome(workdir):
    summary = json.loads((workdir / "summary.json").read_text())
    for record in summary.values():
        if isinstance(record, dict):
            record.pop("seconds", None)
    return summary


def test_a_run_and_its_bundle_are_in_a_bucket_what_they_are_in_files(bucket, tmp_path):
    given = [f"--{name}={value}" for name, value in FLAGS.items()]
    data = f"--data_dir={tmp_path / 'data'}"
    command = [sys.executable, "-W", "ignore", "-c", MAINS, tmp_path, f"{bucket}/whole", data]
    done = subprocess.run([*command, *given], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    for phase in ("baseline", "supernet", "search", "retrain"):
        assert f"{phase}  finished before" in done.stderr
    copy = tmp_path / "copy"
    assert outcome(copy / "run") == outcome(tmp_path / "run")
    names = [
        {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "run", copy / "run")
    ]
    # Orbax marks what is finished by a file, and names pieces of arrays as it likes.
    ours = [{name for name in found if "/state/" not in name} for found in names]
    assert ours[0] == ours[1] and not any("checkpoints" in name for name in names[1])
    scores = [(tmp_path / f"scores-{kind}.csv").read_bytes() for kind in ("fs", "gs")]
    assert scores[0] == scores[1] and len(scores[0].splitlines()) == 1001
