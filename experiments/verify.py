"""Retrain the winner of the search and the best simple rule over seeds, and say which is better.

python -m experiments.verify --dataset=flights --model=deepfm --workdir=DIR --verify_seeds=5
"""

from absl import flags

from experiments.run import cli, runs
from experiments.run import flags as project_flags

flags.adopt_module_key_flags(project_flags)

if __name__ == "__main__":
    cli.run(runs.phase_main("verify"))
