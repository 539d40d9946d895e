"""The figures of a benchmark as JSON; the flag is defined once, for whoever imports several."""

import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

from absl import flags

JSON = flags.DEFINE_string("json", None, "File for the figures.")


def write(figures: Any) -> None:
    """Write them to ``--json``, if that is given."""
    if JSON.value:
        pathlib.Path(JSON.value).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What measured, and what ran beside it. JAX is not imported: some still have to set it up."""
    version = importlib.metadata.version("jax")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, jax {version}",
        "load": os.getloadavg()[0],
    }
