from optembed_jax.exchange.bytes_sent import (
    StackTraffic,
    by_all_gather,
    by_all_to_all,
    fewer_bytes,
)

STACK = StackTraffic.of(512, (1_000_000, 10, 300), 33)


def test_a_device_reads_an_id_per_field_and_no_row_twice():
    assert StackTraffic(ids=1536, most=512 + 10 + 300, width=33) == STACK
    assert StackTraffic.of(512, (), 4) == StackTraffic(0, 1, 4)


def test_bytes_of_one_grow_with_the_devices_and_those_of_the_other_do_not():
    gathered = [by_all_gather([STACK], n) for n in (4, 8, 16)]
    # Ids, rows there, gradients back.
    assert gathered[0] == 4 * 1536 * (1 + 33 + 33) * 4
    assert gathered == [gathered[0] * k for k in (1, 2, 4)]
    asked = [by_all_to_all([STACK], n) for n in (4, 8, 16)]
    capacity = 257  # 1.25 * 822 / 4, rounded up.
    assert asked[0] == 4 * capacity * (1 + 33 + 1 + 33) * 4
    assert max(asked) <= 1.02 * min(asked)
    assert by_all_to_all([STACK], 4, rounds=3) == 3 * asked[0]
    assert by_all_to_all([STACK], 4, capacity=10) == 4 * 10 * 68 * 4
    assert by_all_to_all([STACK, STACK], 4) == 2 * asked[0]


def test_auto_asks_where_two_rounds_send_less():
    every = StackTraffic.of(512, (10**6,) * 3, 33)  # All ids may differ.
    assert [fewer_bytes([every], n) for n in (1, 2, 4, 64)] == [
        *("all_gather", "all_gather", "all_to_all", "all_to_all")
    ]
    few = StackTraffic.of(512, (50,) * 3, 33)
    assert fewer_bytes([few], 2) == "all_to_all"
