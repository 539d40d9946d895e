"""Runs that worker processes can be given."""

import os
import time


def where(job):
    """A record of where it was done: the process, and the cores that it may use."""
    return job | {"pid": os.getpid(), "cores": sorted(os.sched_getaffinity(0))}


def slowly(job):
    time.sleep(job["n"])
    return job


def fails(job):
    raise ValueError(f"no run {job['n']}")
