"""How many rounds an ``all_to_all`` of rows takes on a click log's ids, for any number of devices.

    python -m experiments.benchmarks.exchange_rounds --devices=4,64,1024 --json=rounds.json

Reckoned by NumPy, so that no devices are needed: fields of a click log's sizes, ids that follow
Zipf (``click_log``) or, worst for distinct rows, are drawn evenly. Beside the rounds of the default
capacity, how many of the rows that could be asked for are.
"""

from typing import Any

import numpy as np
from absl import flags

from experiments.benchmarks import json_file
from experiments.benchmarks.click_log import FEWEST_ROWS, fields_of, zipf_batches
from experiments.run import cli
from optembed_jax.exchange.row_requests import capacity_for
from optembed_jax.exchange.row_shards import RowShards


def rounds_of(shards: RowShards, capacity: int, wanted: list[np.ndarray]) -> int:
    """Rounds of ``row_requests``: each asks all for the longest stretch that fits every pair.

    Args:
      shards: how rows are sharded; as many devices as ``wanted`` has.
      capacity: rows that a device asks another one for in a round.
      wanted: of each device, where its distinct rows stand among those of all blocks, ascending.
    """
    blocks = np.arange(shards.devices) * shards.per_device
    start, rounds = np.zeros_like(blocks), 0
    while (start < shards.per_device).any():
        end = np.full_like(blocks, shards.per_device)
        for own in wanted:
            over = np.searchsorted(own, blocks + start) + capacity
            left = np.append(own, shards.padded)[np.minimum(over, len(own))]
            end = np.minimum(end, left - blocks)
        start, rounds = end, rounds + 1
    return rounds


def measure(devices: int, exponent: float, rows: int, examples: int) -> dict[str, Any]:
    """The record of so many devices, of so many examples each, and of a table of so many rows."""
    fields = fields_of(rows)
    shards = RowShards("", devices, fields.num_features)
    most = sum(min(examples, size) for size in fields.sizes)
    ((ids, _),) = zipf_batches(fields, examples * devices, 1, exponent)
    of_device = ids.reshape(devices, -1)
    wanted = [np.sort(shards.stands(np.unique(own))) for own in of_device]
    capacity = capacity_for(most, devices)
    return {
        "devices": devices,
        "exponent": exponent,
        "rows": fields.num_features,
        "most": most,
        "capacity": capacity,
        "rounds": rounds_of(shards, capacity, wanted),
        "distinct_share": float(np.mean([len(own) for own in wanted])) / most,
        "distinct_of_batch": len(np.unique(ids)),
    }


def main() -> None:
    """Print the table."""
    records = [
        measure(int(devices), float(exponent), flags.FLAGS.rows, flags.FLAGS.per_device)
        for exponent in flags.FLAGS.exponents
        for devices in flags.FLAGS.devices
    ]
    print("devices  exponent  capacity of a pair  rounds  distinct rows of the most")
    for own in records:
        print(
            f"{own['devices']:7}  {own['exponent']:8}  {own['capacity']:18,}  {own['rounds']:6}  "
            f"{own['distinct_share']:.0%} of {own['most']:,}"
        )
    json_file.write(records)


if __name__ == "__main__":
    # Here, because other benchmarks have flags of these names.
    flags.DEFINE_list("devices", ["4", "16", "64", "256", "1024"], "Devices, in turn.")
    flags.DEFINE_integer("per_device", 512, "Examples of a device.", lower_bound=1)
    flags.DEFINE_integer("rows", 4_000_000, "Rows of the table, V.", lower_bound=FEWEST_ROWS)
    flags.DEFINE_list("exponents", ["1.1", "0"], "Of Zipf; 0 draws ids evenly.")
    cli.run(main, goes_on=False)
