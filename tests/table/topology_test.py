import pytest

from optembed_jax.errors import InputError
from optembed_jax.table.topology import Topology, topology_of


@pytest.mark.parametrize(
    ("name", "sparse_cores", "lanes"),
    # 128 chips of 4, 64 of 2, 4 of 4.
    [("v5p-256", 512, 8), ("v6e-64", 128, 8), ("tpu7x-8", 16, 16)],
)
def test_topologies(name, sparse_cores, lanes):
    assert topology_of(name) == Topology(sparse_cores, lanes)


@pytest.mark.parametrize("name", ["v4-8", "v5p", "v5p-0", "v5p-x", "", "v5p-256x"])
def test_refuses_what_is_no_topology_with_sparse_cores(name):
    with pytest.raises(InputError, match=r"a topology is one of v5p-N, v6e-N, tpu7x-N, not"):
        topology_of(name)


def test_padding():
    assert Topology(512).padded(1, 1) == (4096, 8)
    assert Topology(512).padded(4096, 8) == (4096, 8)
    assert Topology(512).padded(4097, 9) == (8192, 16)
    assert Topology(4, lanes=16).padded(33, 3) == (64, 16)


def test_bytes_of_tables_count_those_with_columns():
    assert Topology(4).padded_bytes([1, 40, 7], [1, 9, 0]) == 4 * (32 * 8 + 64 * 16)
