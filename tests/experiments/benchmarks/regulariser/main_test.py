import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments.benchmarks.regulariser import report
from experiments.benchmarks.regulariser.plan import KEY

ROOT = pathlib.Path(__file__).parents[4]


def call(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.regulariser", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_what_the_runs_hold_is_reported_without_running(tmp_path):
    run = dict(zip(KEY, ("synthetic", "none", "-", 1.0, 0), strict=True))
    run |= dict.fromkeys(report.FIGURES, 0.625)
    runs, figures, picture = (tmp_path / name for name in ("r.jsonl", "r.json", "r.svg"))
    runs.write_text(json.dumps(run) + "\n")
    done = call(f"--runs={runs}", f"--json={figures}", f"--picture={picture}", "--report_only",
                "--tuning_seeds=1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| nothing | - | 0.6250 |" in done.stdout
    (cell,) = json.loads(figures.read_text())["best"]
    assert cell["test_auc"] == {"mean": 0.625, "spread": None} and cell["seeds"] == 1
    assert picture.stat().st_size > 0 and runs.read_text() == json.dumps(run) + "\n"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--keeps=0.3", "error: --keeps: no '0.3'; there are 0.2, 0.1, 0.05\n"),
        ("--picture=a.jpg", "error: --picture=a.jpg: give it a name that ends in .svg or .png\n"),
    ],
)
def test_a_mistake_is_one_line(flag, message):
    done = call(flag)
    assert (done.returncode, done.stderr) == (2, message)
