"""The engines by name, and what a person chooses about them."""

import dataclasses
import functools

from optembed_jax.data.parallel import workers
from optembed_jax.data.preparing.engine import OpenEngine
from optembed_jax.data.preparing.local_engine import open_local
from optembed_jax.errors import InputError

LOCAL, RAY = "local", "ray"


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """Who does the work of a preparation; what comes of it does not depend on it.

    Attributes:
      engine: "local", the threads of this process, or "ray", the processes of a Ray cluster.
      engine_address: of the cluster; None starts one of this machine's cores and ends it.
      workers: threads or processes that work at once; None: one for each core.

    Raises:
      InputError: there is no such engine, or no such number of workers.
    """

    engine: str = LOCAL
    engine_address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in (LOCAL, RAY):
            raise InputError(f"engine must be {LOCAL} or {RAY}, not {self.engine!r}")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers must be at least 1, got {self.workers}")
        if self.engine_address is not None and self.engine != RAY:
            raise InputError(f"engine_address is that of a Ray cluster: it needs engine={RAY}")


def engine_of(options: EngineOptions) -> OpenEngine:
    """How the engine that is asked for is opened.

    Raises:
      InputError: its package is not installed.
    """
    if options.engine == LOCAL:
        return functools.partial(open_local, threads=options.workers or workers())
    try:
        from optembed_jax.data.preparing.ray_engine import open_ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise InputError(
            "engine=ray needs the package ray, which is not installed here; install "
            "'optembed-jax[ray]'"
        ) from error
    return functools.partial(open_ray, address=options.engine_address, workers=options.workers)
