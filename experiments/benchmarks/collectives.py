"""What a row-sharded training step sends, counted in the compiled program; nothing is run.

    python -m experiments.benchmarks.collectives --devices=4 --json=collectives.json

Bytes are those of the arrays that a device hands to, or gets from, each collective, whichever is
more: a ring moves ``(n - 1) / n`` of them (twice that for an all-reduce) through each device. The
sizes and the devices are forced CPU ones; the collectives are those of the program, whatever runs
it. Beside them, what the compiler says that a device holds.
"""

import functools
import os
import re
from typing import Any

from absl import flags

from experiments.benchmarks import json_file
from experiments.run import cli

_DEVICES = flags.DEFINE_integer("devices", 4, "Forced CPU devices.")
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


def measure(rows: int) -> dict[str, Any]:
    """The record of one table size."""
    import jax
    import numpy as np

    from optembed_jax.devices.choice import state_bytes
    from optembed_jax.devices.layout import bytes_of
    from optembed_jax.devices.parallel import row_sharded
    from optembed_jax.fields import Fields
    from optembed_jax.models.forward import Selection
    from optembed_jax.models.model_config import ModelConfig
    from optembed_jax.step.optimisers import TrainConfig
    from optembed_jax.step.train_state import init_state
    from optembed_jax.step.train_step import Phase

    size = rows // _FIELDS.value
    sizes = (rows - size * (_FIELDS.value - 1), *[size] * (_FIELDS.value - 1))
    fields = Fields(tuple(f"f{i}" for i in range(_FIELDS.value)), sizes)
    model = ModelConfig("deepfm", _DIM.value, (1024, 512, 256))
    train = TrainConfig(row_decay=_DECAY.value, table_update="sparse")
    batch = _DEVICES.value * _PER_DEVICE.value
    steps = row_sharded(Phase.SUPERNET, model, train, batch, rows)
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
    return {
        "rows": rows,
        "devices": _DEVICES.value,
        "sent": {kind: sum(n for name, n in sent if name == kind) for kind in kinds},
        "largest": max(n for _, n in sent),
        "state_bytes": memory.argument_size_in_bytes,
        "quarter": of_rows / _DEVICES.value + others,
        "one_device_bytes": of_rows + others,
        "in_place_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "with_best_copy": state_bytes(model, train, fields, _DEVICES.value),
    }


def main() -> None:
    """Print the table."""
    forced = f"--xla_force_host_platform_device_count={_DEVICES.value}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {forced}".strip()
    os.environ["JAX_PLATFORMS"] = "cpu"
    records = [measure(int(rows)) for rows in _ROWS.value]
    for record in records:
        print(f"V = {record['rows']:,} on {record['devices']} devices")
        for kind, size in record["sent"].items():
            print(f"  {kind:18} {size / 1e6:12.3f} MB")
        print(f"  state on a device  {record['state_bytes'] / 1e6:12.3f} MB")
        print(f"  of one device's    {record['one_device_bytes'] / 1e6:12.3f} MB")
        print(f"  1/n and network    {record['quarter'] / 1e6:12.3f} MB")
        print(f"  updated in place   {record['in_place_bytes'] / 1e6:12.3f} MB")
        print(f"  temporary          {record['temporary_bytes'] / 1e6:12.3f} MB")
    json_file.write(records)


if __name__ == "__main__":
    cli.run(main)
