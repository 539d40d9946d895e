"""Try strengths of the rows' regulariser on the plain model; later phases take the best.

python -m experiments.tune --tune=rows --dataset=flights --model=deepfm --workdir=DIR
"""

from absl import flags

from experiments.run import cli, runs
from experiments.run import flags as project_flags

flags.adopt_module_key_flags(project_flags)

if __name__ == "__main__":
    cli.run(runs.phase_main("tune"))
