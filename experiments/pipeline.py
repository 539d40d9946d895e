"""Run the whole method: baseline, supernet, search, retraining, and the table of results.

    python -m experiments.pipeline --dataset=flights --model=deepfm --workdir=DIR

Finished phases are not run again: the same command goes on where an interrupted run stopped.
"""

from absl import flags

from experiments.run import cli, runs
from experiments.run import flags as project_flags

flags.adopt_module_key_flags(project_flags)

if __name__ == "__main__":
    cli.run(runs.pipeline_main)
