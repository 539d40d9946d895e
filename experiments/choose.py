"""Let a rival of OptEmbed choose which rows or dimensions to keep, before they are retrained.

python -m experiments.choose --method=frequency --dataset=flights --model=deepfm --workdir=DIR
"""

from absl import flags

from experiments.run import cli, runs
from experiments.run import flags as project_flags

flags.adopt_module_key_flags(project_flags)

if __name__ == "__main__":
    cli.run(runs.phase_main("choose"))
