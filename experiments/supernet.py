"""Train the supernet: table, thresholds and network, with sampled dimensions.

python -m experiments.supernet --dataset=flights --model=deepfm --workdir=DIR
"""

from absl import flags

from experiments.run import cli, runs
from experiments.run import flags as project_flags

flags.adopt_module_key_flags(project_flags)

if __name__ == "__main__":
    cli.run(runs.phase_main("supernet"))
