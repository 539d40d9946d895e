"""How long a bundle's runtimes take for a request: each in a process of its own, taking turns.

In one process their threads are in each other's way: a pool that waits for its next work by
spinning takes the cores from whoever's turn it is. A process that waits for its turn sleeps.
"""

import dataclasses
import importlib.util
import multiprocessing
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import jax
import numpy as np

from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.forward_module import model_of
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.table.compact import lookup

_SECONDS = 0.1  # of a turn: short calls are repeated, and a turn's time is their median
_UNTIMED = 2  # turns, for compiling and whatever else a first request does
BUNDLE = "bundle"
"""Folder of the bundle, in the one that the runtimes write theirs to."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A batch of rows, in both forms.

    Attributes:
      ids: int32 ``[B, F]``.
      raw: a column of ``B`` texts for each field.
    """

    ids: np.ndarray
    raw: dict[str, list[str]]


Call = Callable[[], Any]
Calls = dict[str, Callable[[Request], Call]]
"""By name, what makes of a request the call that is timed."""


def take(folder: pathlib.Path, requests: Sequence[Request], turns: int) -> dict[str, float]:
    """Median milliseconds of each call, by ``{name}_{rows}_ms``, over ``turns`` turns of each.

    Args:
      folder: has the bundle, in ``BUNDLE``.
      requests: of different numbers of rows.
      turns: timed ones.

    Raises:
      RuntimeError: a process ended before its time; what it printed says why.
    """
    spawn = multiprocessing.get_context("spawn")
    processes, ends = [], []
    for library, load in RUNTIMES:
        if importlib.util.find_spec(library) is not None:
            end, other = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(other, load, folder, list(requests)))
            process.start()
            other.close()
            processes.append(process)
            ends.append(end)
    try:
        return _ask(ends, len(requests), turns)
    finally:
        for end in ends:
            end.close()
        for process in processes:
            process.join()


def _ask(ends: Sequence[Connection], requests: int, turns: int) -> dict[str, float]:
    """Give each its turns, and take the median of what it answers."""
    taken: dict[str, list[float]] = {}
    try:
        for turn in range(_UNTIMED + turns):
            for place in range(requests):
                for end in ends:
                    end.send(place)
                    for name, milliseconds in end.recv().items():
                        if turn >= _UNTIMED:
                            taken.setdefault(name, []).append(milliseconds)
    except (EOFError, ConnectionError) as error:
        raise RuntimeError("a runtime's process ended; its own lines say why") from error
    return {name: statistics.median(values) for name, values in taken.items()}


def _serve(
    end: Connection,
    load: Callable[[pathlib.Path], Calls],
    folder: pathlib.Path,
    requests: Sequence[Request],
) -> None:
    """Load a runtime and time its calls of a request whenever one is named, until nobody asks."""
    calls = load(folder)
    made = [{name: make(request) for name, make in calls.items()} for request in requests]
    while True:
        try:
            place = end.recv()
        except EOFError:
            return
        rows = len(requests[place].ids)
        end.send({f"{name}_{rows}_ms": _turn(call) for name, call in made[place].items()})


def _turn(call: Call) -> float:
    """Median milliseconds of a call, made again until the turn is over."""
    taken: list[float] = []
    begun = time.perf_counter()
    while not taken or time.perf_counter() - begun < _SECONDS:
        started = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def _both_forms(bundle: Bundle | NumpyBundle, prefix: str = "") -> Calls:
    return {
        f"{prefix}ids": lambda request: lambda: bundle.logits(request.ids),
        f"{prefix}raw": lambda request: lambda: bundle.logits(request.raw),
    }


def _bundle(folder: pathlib.Path) -> Calls:
    return _both_forms(Bundle.load(folder / BUNDLE))


def _lookup(folder: pathlib.Path) -> Calls:
    bundle = Bundle.load(folder / BUNDLE)
    fields = bundle.manifest["fields"]
    params, _, index = model_of(dict(bundle.weights), fields, bundle.manifest["linear_by_id"])
    own = jax.jit(lookup)
    return {"lookup": lambda request: lambda: own(params.table, index, request.ids)}


def _numpy(folder: pathlib.Path) -> Calls:
    return _both_forms(NumpyBundle.load(folder / BUNDLE), "numpy_")


def _onnx(folder: pathlib.Path) -> Calls:
    import onnxruntime

    from optembed_jax.targets import onnx_file

    bundle, sessions = Bundle.load(folder / BUNDLE), {}
    for takes_ids in (True, False):
        onnx_file.write(bundle, folder / "model.onnx", takes_ids)
        sessions[takes_ids] = onnxruntime.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"]
        )

    def of_ids(request: Request) -> Call:
        feed = {"ids": request.ids.astype(np.int64)}
        return lambda: sessions[True].run(["logit"], feed)

    def of_raw(request: Request) -> Call:
        # From the lists that a server has: making arrays of them is part of a request.
        return lambda: sessions[False].run(
            ["logit"], {name: np.array(values, object) for name, values in request.raw.items()}
        )

    return {"onnx_ids": of_ids, "onnx_raw": of_raw}


def _torch(folder: pathlib.Path) -> Calls:
    import torch

    from optembed_jax.targets import torch_folder

    torch_folder.write(Bundle.load(folder / BUNDLE), folder / "torch", takes_ids=True)
    model = torch_folder.imported(folder / "torch" / torch_folder.MODULE).load(folder / "torch")

    def of_ids(request: Request) -> Call:
        given = torch.from_numpy(request.ids.astype(np.int64))

        def call() -> Any:
            with torch.no_grad():
                return model(given).numpy()

        return call

    return {"torch_ids": of_ids}


def _fbgemm(folder: pathlib.Path) -> Calls:
    import torch

    from optembed_jax.targets import torch_folder

    bundle = Bundle.load(folder / BUNDLE)
    torch_folder.write(bundle, folder / "fbgemm", takes_ids=True)
    written = torch_folder.imported(folder / "fbgemm" / torch_folder.MODULE)
    tables = written.fbgemm_tables(folder / "fbgemm")

    def looked_up(request: Request) -> Call:
        local = (request.ids - bundle.fields.offsets).T.astype(np.int32)
        indices = torch.from_numpy(np.ascontiguousarray(local.reshape(-1)))
        offsets = torch.arange(local.size + 1, dtype=torch.int32)
        return lambda: tables(indices, offsets).numpy()

    return {"fbgemm_lookup": looked_up}


RUNTIMES: tuple[tuple[str, Callable[[pathlib.Path], Calls]], ...] = (
    ("jax", _bundle),
    ("jax", _lookup),
    ("numpy", _numpy),
    ("onnxruntime", _onnx),
    ("torch", _torch),
    ("fbgemm_gpu", _fbgemm),
)
"""The library of each, and what makes its calls of the folder."""
