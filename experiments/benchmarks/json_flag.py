"""--json of the benchmarks, defined once: one process may import several of them, as tests do."""

from absl import flags

JSON = flags.DEFINE_string("json", None, "File for the figures.")
