import jax
import numpy as np
import pytest

from experiments.benchmarks.exchange_rounds import rounds_of
from optembed_jax.exchange.row_requests import RowExchange
from optembed_jax.exchange.row_shards import RowShards


@pytest.mark.parametrize("capacity", [1, 2, 5])
def test_rounds_are_those_that_devices_take(capacity):
    shards = RowShards("devices", 4, 100)
    ids = np.random.default_rng(capacity).integers(0, 100, (4, 9, 2)).astype(np.int32)
    exchange = RowExchange(shards, capacity)

    def device(own):
        start = np.int32(0)
        return exchange.in_rounds(exchange.requests(own, 18), lambda _, same: same, start)[1]

    taken = jax.pmap(device, "devices")(ids)
    wanted = [np.sort(shards.stands(np.unique(own))) for own in ids]
    assert taken.tolist() == [rounds_of(shards, capacity, wanted)] * 4
