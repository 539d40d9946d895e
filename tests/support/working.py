"""Runs that worker processes can be given."""

import os
import signal
import time


def where(job):
    """A record of where it was done: the process, and the cores that it may use."""
    return job | {"pid": os.getpid(), "cores": sorted(os.sched_getaffinity(0))}


def slowly(job):
    time.sleep(job["n"])
    return job


def fails(job):
    raise ValueError(f"no run {job['n']}")


def ends_with_its_group(job):
    """As where a signal goes to a whole group of processes: SIGTERM to the one that asked, too."""
    os.kill(os.getppid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGKILL)
