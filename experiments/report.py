"""Write the page of a run: pictures and tables of what it recorded, in one file.

    python -m experiments.report --workdir=DIR

The pipeline writes it at its end; this writes it anew, such as for phases that were run alone, and
trains nothing.
"""

from absl import flags

from experiments.run import cli, report_page
from experiments.run import flags as project_flags
from experiments.run.workdir import Workdir

flags.adopt_module_key_flags(project_flags)


def main() -> None:
    """Write ``DIR/report.html``."""
    print(f"report: {report_page.write(Workdir(project_flags.workdir()))}")


if __name__ == "__main__":
    cli.run(main, goes_on=False)
