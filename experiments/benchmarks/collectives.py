"""What a row-sharded training step sends, counted in the compiled program; nothing is run.

    python -m experiments.benchmarks.collectives --devices=4,8,16 --json=collectives.json

Bytes are those of the arrays that a device hands to, or gets from, each collective, whichever is
more: a ring moves ``(n - 1) / n`` of them (twice that for an all-reduce) through each device. The
sizes and the devices are forced CPU ones; the collectives are those of the program, whatever runs
it. A program that goes in rounds has them in a loop, and what is counted is one round. Beside them,
what the compiler says that a device holds.
"""

import functools
import os
import re
from typing import Any

from absl import flags

from experiments.benchmarks import json_file
from experiments.run import cli

_DEVICES = flags.DEFINE_list("devices", ["4", "8", "16"], "Forced CPU devices, in turn.")
_EXCHANGES = flags.DEFINE_list(
    "exchanges", ["all_gather", "all_to_all"], "How rows come to who reads them."
)
_PER_DEVICE = flags.DEFINE_integer("per_device", 512, "Examples of a device.")
_FIELDS = flags.DEFINE_integer("fields", 39, "Fields of equal size.")
_ROWS = flags.DEFINE_list("rows", ["200000", "4000000"], "Rows of the table, V.")
_DIM = flags.DEFINE_integer("dim", 32, "D.")
_DECAY = flags.DEFINE_string("decay", "group_lasso", "row_decay.")

_COLLECTIVE = re.compile(
    r"= (?P<result>.*?) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all|"
    r"collective-permute)(?:-start)?\((?P<operands>.*)$"
)
_ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16)\[([\d,]*)\]")


def counted(program: str) -> list[tuple[str, int]]:
    """Kind and bytes of each collective of a compiled program's text."""
    shapes = {}
    for line in program.splitlines():
        name, equals, right = line.strip().removeprefix("ROOT ").partition(" = ")
        if equals:
            shapes[name.lstrip("%")] = _bytes(right.split("(", 1)[0])
    found = []
    for line in program.splitlines():
        match = _COLLECTIVE.search(line)
        if match:
            names = re.findall(r"%([\w.\-]+)", match["operands"].split("), ")[0])
            given = sum(shapes.get(name, 0) for name in names)
            found.append((match["kind"], max(_bytes(match["result"]), given)))
    return found


def _bytes(text: str) -> int:
    total = 0
    for kind, shape in _ARRAY.findall(text):
        width = 1 if kind == "pred" else int(re.sub(r"\D", "", kind)) // 8
        total += width * functools.reduce(int.__mul__, map(int, filter(None, shape.split(","))), 1)
    return total


def measure(rows: int, devices: int, exchange: str) -> dict[str, Any]:
    """The record of one table size, on so many of the devices that there are."""
    import jax
    import numpy as np

    from optembed_jax.devices.choice import state_bytes
    from optembed_jax.devices.layout import bytes_of
    from optembed_jax.devices.parallel import devices_in_order, row_sharded
    from optembed_jax.exchange import bytes_sent
    from optembed_jax.fields import Fields
    from optembed_jax.models.model_config import ModelConfig
    from optembed_jax.models.selection import Selection
    from optembed_jax.step.optimisers import TrainConfig
    from optembed_jax.step.train_state import init_state
    from optembed_jax.step.train_step import Phase

    size = rows // _FIELDS.value
    sizes = (rows - size * (_FIELDS.value - 1), *[size] * (_FIELDS.value - 1))
    fields = Fields(tuple(f"f{i}" for i in range(_FIELDS.value)), sizes)
    model = ModelConfig("deepfm", _DIM.value, (1024, 512, 256))
    train = TrainConfig(row_decay=_DECAY.value, table_update="sparse")
    batch, used = devices * _PER_DEVICE.value, devices_in_order()[:devices]
    steps = row_sharded(Phase.SUPERNET, model, train, batch, rows, used, exchange)
    make = functools.partial(init_state, model=model, train=train, fields=fields)
    shapes = jax.eval_shape(make, jax.random.key(0))
    state = steps.layout(shapes)
    ids, labels = np.tile(fields.oov_ids, (batch, 1)), np.zeros(batch, np.float32)
    step = jax.jit(
        lambda state: steps.train(state, ids, labels, Selection()), donate_argnums=0
    ).lower(state)
    compiled = step.compile()
    memory: Any = compiled.memory_analysis()
    sent = counted(str(compiled.as_text()))
    of_rows, others = bytes_of(model, shapes)
    kinds = sorted({kind for kind, _ in sent})
    # An all-reduce is of what is the same on all devices: the network, and what all agree on.
    of_rows_sent = sum(n for name, n in sent if name != "all-reduce")
    read = [bytes_sent.StackTraffic.of(_PER_DEVICE.value, sizes, _DIM.value + 1)]
    modelled = {"all_gather": bytes_sent.by_all_gather, "all_to_all": bytes_sent.by_all_to_all}
    return {
        "rows": rows,
        "devices": devices,
        "exchange": exchange,
        "exchange_bytes": of_rows_sent,
        "exchange_bytes_modelled": modelled[exchange](read, devices),
        "sent": {kind: sum(n for name, n in sent if name == kind) for kind in kinds},
        "largest": max(n for _, n in sent),
        "state_bytes": memory.argument_size_in_bytes,
        "quarter": of_rows / devices + others,
        "one_device_bytes": of_rows + others,
        "in_place_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "with_best_copy": state_bytes(model, train, fields, devices),
    }


def growths(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each exchange and V, a device's figures on the most devices over those on the fewest.

    ``bytes``: of the exchange, of one round. ``temporary``: memory beside the state.
    """
    found: dict[str, Any] = {}
    for exchange, rows in dict.fromkeys((own["exchange"], own["rows"]) for own in records):
        of = [own for own in records if (own["exchange"], own["rows"]) == (exchange, rows)]
        few, many = (choose(of, key=lambda own: own["devices"]) for choose in (min, max))
        found[f"{exchange} V={rows}"] = {
            "devices": [few["devices"], many["devices"]],
            "bytes": many["exchange_bytes"] / few["exchange_bytes"],
            "temporary": many["temporary_bytes"] / few["temporary_bytes"],
        }
    return found


def main() -> None:
    """Print the table."""
    most = max(map(int, _DEVICES.value))
    forced = f"--xla_force_host_platform_device_count={most}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {forced}".strip()
    os.environ["JAX_PLATFORMS"] = "cpu"
    records = [
        measure(int(rows), int(devices), exchange)
        for exchange in _EXCHANGES.value
        for rows in _ROWS.value
        for devices in _DEVICES.value
    ]
    for record in records:
        print(f"V = {record['rows']:,} on {record['devices']} devices by {record['exchange']}")
        for kind, size in record["sent"].items():
            print(f"  {kind:18} {size / 1e6:12.3f} MB")
        print(f"  rows' exchange     {record['exchange_bytes'] / 1e6:12.3f} MB")
        print(f"  as modelled        {record['exchange_bytes_modelled'] / 1e6:12.3f} MB")
        print(f"  state on a device  {record['state_bytes'] / 1e6:12.3f} MB")
        print(f"  of one device's    {record['one_device_bytes'] / 1e6:12.3f} MB")
        print(f"  1/n and network    {record['quarter'] / 1e6:12.3f} MB")
        print(f"  updated in place   {record['in_place_bytes'] / 1e6:12.3f} MB")
        print(f"  temporary          {record['temporary_bytes'] / 1e6:12.3f} MB")
    growth = growths(records)
    for name, own in growth.items():
        few, many = own["devices"]
        print(f"{name}: from {few} to {many} devices bytes times {own['bytes']:.2f}, temporary")
        print(f"  memory times {own['temporary']:.2f}")
    json_file.write({"records": records, "growth": growth})


if __name__ == "__main__":
    cli.run(main, goes_on=False)
