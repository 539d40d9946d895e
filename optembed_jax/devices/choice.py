"""Whether a table fits every device, or has to be sharded: what a training state weighs."""

import dataclasses
import math
import os
from typing import Any, Literal

import jax

from optembed_jax.devices.layout import bytes_of
from optembed_jax.devices.parallel import Steps, devices_in_order, one_device, pmapped, row_sharded
from optembed_jax.errors import InputError
from optembed_jax.exchange import bytes_sent, row_shards
from optembed_jax.exchange.bytes_sent import StackTraffic
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params, init_params
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase

PARALLELISMS = ("auto", "pmap", "sharded")

EXCHANGES = ("auto", *row_shards.EXCHANGES)

SHARE = 0.8
"""Of a device's memory that a state may take; the rest is for a batch and what is made of it."""

Kind = Literal["one", "pmap", "sharded"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """How training is spread over devices, and why.

    Attributes:
      kind: ``one`` device, ``pmap`` copies on each, or ``sharded`` by rows.
      devices: how many, over all processes.
      state_bytes: of table, moments, bookkeeping, network and a copy of the best parameters, on
        each device.
      memory: bytes of a device.
      memory_is_of: what that is: the device's own, or its share of the host's.
      asked: whether ``kind`` was asked for.
      exchange: how rows that are sharded come to who reads them; None where they are not.
      exchange_bytes: that a device sends for it in a step, of each exchange.
    """

    kind: Kind
    devices: int
    state_bytes: int
    memory: int
    memory_is_of: str
    asked: bool
    exchange: str | None = None
    exchange_bytes: dict[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        """One line for a person."""
        how = {"one": "one device", "pmap": "a copy on each of", "sharded": "rows sharded over"}
        where = "" if self.kind == "one" else f" {self.devices} devices"
        why = "as asked" if self.asked else f"auto: at most {SHARE:.0%} of it is to be taken"
        return (
            f"{how[self.kind]}{where}, {_mb(self.state_bytes)} of state on each, of "
            f"{_mb(self.memory)} {self.memory_is_of} ({why}){self._how_exchanged()}"
        )

    def _how_exchanged(self) -> str:
        if self.exchange is None:
            return ""
        sent = " ".join(f"{name} {_mb(size)}" for name, size in self.exchange_bytes.items())
        return f"; rows by {self.exchange}, of a step's {sent}"


def choose(
    parallelism: str,
    model: ModelConfig,
    train: TrainConfig,
    fields: Fields,
    start: tuple[Params, Any] | None = None,
    *,
    exchange: str = "auto",
    batch_size: int = 1,
) -> Choice:
    """How a training phase is to be spread over all devices.

    Args:
      parallelism: one of ``PARALLELISMS``; ``auto`` copies what fits, and shards what does not.
      model: the model.
      train: the optimiser settings.
      fields: the data set's fields.
      start: what training starts from, or its shapes; None is a full table.
      exchange: of rows that are sharded, one of ``EXCHANGES``; ``auto`` takes what sends less
        (``bytes_sent.fewer_bytes``).
      batch_size: of a training batch, over all processes; only read where rows are sharded.

    Raises:
      InputError: no such parallelism or exchange.
    """
    if exchange not in EXCHANGES:
        raise InputError(f"exchange must be one of {', '.join(EXCHANGES)}, not {exchange!r}")
    if parallelism not in PARALLELISMS:
        raise InputError(
            f"parallelism must be one of {', '.join(PARALLELISMS)}, not {parallelism!r}"
        )
    devices = len(devices_in_order())
    copied, sharded = (state_bytes(model, train, fields, n, start) for n in (1, devices))
    memory, memory_is_of = device_memory()
    kind: Kind = "sharded" if parallelism == "sharded" else "pmap"
    if parallelism == "auto" and not _are_worth_it():
        kind = "one"
    elif parallelism == "auto" and copied > SHARE * memory and devices > 1:
        kind = "sharded"
    if kind == "pmap" and devices == 1:
        kind = "one"
    asked = parallelism != "auto"
    if kind != "sharded":
        return Choice(kind, devices, copied, memory, memory_is_of, asked)
    stacks = _traffic(model, fields, start, -(-batch_size // devices))
    sent = {
        "all_gather": bytes_sent.by_all_gather(stacks, devices),
        "all_to_all": bytes_sent.by_all_to_all(stacks, devices),
    }
    if exchange == "auto":
        exchange = bytes_sent.fewer_bytes(stacks, devices)
    return Choice(kind, devices, sharded, memory, memory_is_of, asked, exchange, sent)


def _traffic(
    model: ModelConfig, fields: Fields, start: tuple[Params, Any] | None, examples: int
) -> list[StackTraffic]:
    """What so many examples read of each stack of a table."""
    if start is None:
        params = jax.eval_shape(lambda key: init_params(key, model, fields)[0], jax.random.key(0))
    else:
        params = start[0]
    table = params.table
    return [
        StackTraffic.of(
            examples,
            own.sizes,
            math.prod(stack.rows.shape[1:]) + (stack.linear is not None),
            own.slots,
        )
        for stack, own in zip(table.stacks, table.fields_of_stacks(fields), strict=True)
    ]


def make_steps(
    choice: Choice,
    phase: Phase,
    model: ModelConfig,
    train: TrainConfig,
    batch_size: int,
    num_features: int,
) -> Steps:
    """The steps of a phase, as chosen; the other arguments as in ``pmapped``."""
    if choice.kind == "one":
        return one_device(phase, model, train)
    if choice.kind == "pmap":
        return pmapped(phase, model, train, batch_size, num_features)
    return row_sharded(
        phase, model, train, batch_size, num_features, exchange=choice.exchange or "all_gather"
    )


def _are_worth_it() -> bool:
    """Whether devices add anything: those of one CPU share its cores and its memory."""
    return jax.process_count() > 1 or jax.devices()[0].platform != "cpu"


def state_bytes(
    model: ModelConfig,
    train: TrainConfig,
    fields: Fields,
    devices: int,
    start: tuple[Params, Any] | None = None,
) -> int:
    """Bytes on each of so many devices that the rows are sharded over, nothing being made."""
    gather = model.has_row_budget and start is None
    state = jax.eval_shape(
        lambda key, start: init_state(key, model, train, fields, start=start, gather_scores=gather),
        jax.random.key(0),
        start,
    )
    total = 0
    for part in (dataclasses.replace(state, key=None), state.params):
        of_rows, others = bytes_of(model, part)
        total += -(-of_rows // devices) + others
    return total


def device_memory() -> tuple[int, str]:
    """Bytes of a device, and what they are of."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"]), f"{device.platform} memory"
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return host // jax.local_device_count(), "host memory"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
