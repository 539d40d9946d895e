import dataclasses

import pytest

from optembed_jax.data import DATASETS
from optembed_jax.data.options import USED_BY, DataOptions, usual_encoding
from optembed_jax.errors import InputError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("split", "randomly"),
        ("vocab_from", "test"),
        ("min_count", 0),
        ("data_seed", -1),
        ("numeric_bins", 1),
        ("max_bad_rows", -1),
        ("synthetic_rows", 5),
        ("synthetic_signal_fields", 0),
        ("categorical", "a,b"),
    ],
)
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=name):
        DataOptions(**{name: value})


def test_every_data_set_says_what_it_uses():
    assert set(USED_BY) == set(DATASETS)
    names = {field.name for field in dataclasses.fields(DataOptions)}
    assert set().union(*USED_BY.values()) == names


def test_used_by_refuses_what_is_not_used():
    assert DataOptions(min_count=3).used_by("flights")["min_count"] == 3
    with pytest.raises(InputError, match="table_file is set, but data set 'flights'"):
        DataOptions(table_file="x").used_by("flights")
    with pytest.raises(InputError, match="no data set 'criteo'; there are: avazu"):
        DataOptions().used_by("criteo")


def test_lists_are_kept_as_tuples():
    assert DataOptions(categorical=["a"]) == DataOptions(categorical=("a",))
    assert DataOptions(categorical=["a"], numeric=None).numeric == ()


def test_cells_of_several_values_are_said_only_where_there_are_any():
    plain = DataOptions(multi=())
    for name in ("flights", "synthetic", "avazu"):
        assert not {"multi", "separator", "max_values"} & plain.used_by(name).keys()
        assert plain.used_by(name) == DataOptions().used_by(name)
    assert plain.used_by("movielens") == {
        name: value
        for name, value in DataOptions().used_by("movielens").items()
        if name not in ("multi", "max_values")
    }
    several = DataOptions(multi=["a"], separator="|").used_by("table")
    assert (several["multi"], several["separator"], several["max_values"]) == (["a"], "|", 16)
    with pytest.raises(InputError, match="multi is set, but data set 'flights' does not use it"):
        DataOptions(multi=["a"]).used_by("flights")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("utf-8", "UTF8", "utf_8", "U8"), "utf-8"),
        (("latin-1", "latin1", "ISO-8859-1", "l1"), "latin-1"),
        (("cp1252", "windows-1252"), "cp1252"),
        (("utf-16", "UTF16"), "utf-16"),
    ],
)
def test_an_encoding_of_several_names_is_one_option(names, expected):
    found = {DataOptions(encoding=name) for name in names}
    assert found == {DataOptions(encoding=expected)}
    assert {options.encoding for options in found} == {expected}
    used = DataOptions(table_file="x", encoding=names[-1]).used_by("table")
    assert used.get("encoding", "utf-8") == expected


def test_an_encoding_that_nobody_knows():
    with pytest.raises(InputError, match="encoding 'klingon' is not known"):
        DataOptions(encoding="klingon")


def test_the_one_name_of_an_encoding_is_that_of_each_spelling():
    assert usual_encoding("ISO-8859-1") == "latin-1" and usual_encoding("UTF8") == "utf-8"
    with pytest.raises(InputError, match="no-such"):
        usual_encoding("no-such")
