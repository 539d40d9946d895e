"""A Ray cluster that is started, or connected to, checked, and left again."""

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import shutil
import signal
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import optembed_jax
from optembed_jax.data.parallel import workers as cores
from optembed_jax.errors import InputError

_LOOK_EVERY, _GIVEN_UP_AFTER = 5, 60  # seconds

_PACKAGES = ("numpy", "pyarrow", "array-record")
"""Those that make the content of prepared files."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Attributes:
      workers: tasks that run at once.
      scratch: where tasks may put files, which are deleted whatever becomes of the tasks.
      machines: their addresses by Ray's names for them, as they were at the beginning.
    """

    workers: int
    scratch: pathlib.Path
    machines: Mapping[str, str]

    def wait(self, tasks: Sequence[Any]) -> set[Any]:
        """Waits until one of some tasks has ended, at least; those that have.

        What a lost machine held is made again by Ray where that can be. Where it cannot, since what
        it was made from is gone, Ray 2.60 waits for ever.

        Raises:
          InputError: a machine was lost, and nothing ends.
        """
        waited = 0
        while True:
            done, _ = ray.wait(list(tasks), num_returns=1, timeout=_LOOK_EVERY)
            if done:
                return set(done)
            waited += _LOOK_EVERY
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            lost = [name for node, name in self.machines.items() if node not in alive]
            if lost and waited >= _GIVEN_UP_AFTER:
                raise InputError(
                    f"engine=ray lost machine {lost[0]} and what it held, and nothing was left "
                    "behind; run it again"
                )


@contextlib.contextmanager
def connected(scratch: pathlib.Path, address: str | None, workers: int | None) -> Iterator[Cluster]:
    """Starts a cluster on this machine, or connects to one, and leaves it at the end.

    Where this process is connected already, as in a notebook, that cluster is used, and stays.

    Args:
      scratch: an existing folder, that every machine of the cluster has to see.
      address: of a cluster; None starts one.
      workers: tasks that run at once; None: one for each core.

    Raises:
      InputError: the cluster cannot be reached or used, or was lost at work.
    """
    with contextlib.ExitStack() as at_end:
        is_own = address is None and not ray.is_initialized()
        if is_own:
            _start(scratch, workers or cores(), at_end)
        elif address is not None:
            _connect(address, at_end)
        try:
            if not is_own:
                _check_machines(scratch)
            found = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            machines = {n["NodeID"]: n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]}
            yield Cluster(found, scratch, machines)
        except ray.exceptions.RayError as error:
            what = " ".join(str(error).split())[:300]
            raise InputError(
                "engine=ray lost processes or machines more often than it tries again, and nothing "
                f"was left behind; run it again, with fewer workers if memory was short ({what})"
            ) from error


def _start(scratch: pathlib.Path, workers: int, at_end: contextlib.ExitStack) -> None:
    # Ray tells its makers of each cluster unless this is set.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its sockets have short names only: they are not put into the scratch folder.
    session = tempfile.mkdtemp(prefix="ray-")
    at_end.callback(shutil.rmtree, session, ignore_errors=True)
    at_end.callback(ray.shutdown)
    with _our_signals():
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_spilling_directory=str(scratch),
            _temp_dir=session,
        )


def _connect(address: str, at_end: contextlib.ExitStack) -> None:
    if ray.is_initialized():
        raise InputError(
            f"engine_address={address}: this process is connected to a Ray cluster already; leave "
            "engine_address out to use that one"
        )
    if address.startswith("ray://"):
        raise InputError(
            f"engine_address={address}: run this on a machine of the cluster, with "
            "--engine_address=auto; through a client all rows would pass twice"
        )
    _check_reachable(address)
    at_end.callback(ray.shutdown)
    try:
        with _our_signals():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        what = " ".join(str(error).split())[:300]
        raise InputError(
            f"engine_address={address}: there is no Ray cluster that can be used ({what}); start "
            "one with `ray start --head`, or leave engine_address out"
        ) from error


@contextlib.contextmanager
def _our_signals() -> Iterator[None]:
    """Ray answers SIGTERM by ending the process at once; whoever did so before does so again."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_reachable(address: str) -> None:
    """Where nobody listens Ray tries for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"engine_address={address}: nobody answers there ({error}); start a Ray cluster with "
            "`ray start --head`, or leave engine_address out"
        ) from error


def _check_machines(scratch: pathlib.Path) -> None:
    """Every machine has to see the folder, and to have the packages that this one has."""
    mark = scratch / f"seen-{uuid.uuid4().hex}"
    mark.touch()
    here = _versions()
    probe = ray.remote(num_cpus=0)(_probe)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [
        probe.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(str(mark))
        for node in nodes
    ]
    for node, (sees, versions) in zip(nodes, ray.get(asked), strict=True):
        name = node["NodeManagerAddress"]
        if not sees:
            raise InputError(
                f"machine {name} of the cluster does not see {scratch.parent}; data_dir has to be "
                "on a file system that all machines have at the same place"
            )
        for package, version in versions.items():
            if version != here[package]:
                raise InputError(
                    f"machine {name} of the cluster has {package} {version}, and this one "
                    f"{here[package]}; install the same, so that the same comes of it"
                )
    mark.unlink()


def _probe(mark: str) -> tuple[bool, dict[str, str]]:
    return os.path.exists(mark), _versions()


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"optembed-jax": optembed_jax.__version__, **found}
