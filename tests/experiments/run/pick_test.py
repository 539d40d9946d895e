import pytest

from experiments.run.pick import check_pick, pick
from optembed_jax.errors import InputError

FRONT = [
    {"index": index, "table_bytes": size, "knee": index == 1}
    for index, size in enumerate([1000, 1024, 150_000, 2_000_000])
]


@pytest.mark.parametrize(
    ("wish", "index"),
    [
        ("best", 3),
        ("knee", 1),
        ("0", 0),
        ("3", 3),
        ("1000B", 0),
        ("1023 b", 0),
        ("1KiB", 1),
        ("1.5kB", 1),
        ("0.15MB", 2),
        ("2MB", 3),
        ("1GiB", 3),
    ],
)
def test_a_table_is_picked_by_name_by_number_or_by_size(wish, index):
    check_pick(wish)
    assert pick(FRONT, wish)["index"] == index


def test_what_is_not_on_the_front():
    with pytest.raises(InputError, match="--pick=4: the front has points 0 to 3"):
        pick(FRONT, "4")
    with pytest.raises(InputError, match="smallest table of the front has 1,000 bytes"):
        pick(FRONT, "999B")


@pytest.mark.parametrize("wish", ["", "smallest", "-1", "1.5", "kB", "3 apples", "1XB"])
def test_what_cannot_be_read(wish):
    with pytest.raises(InputError, match="pick must be best, knee"):
        check_pick(wish)
