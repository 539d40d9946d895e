import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.storage import array_file


def test_arrays_come_back_exactly(tmp_path):
    arrays = {
        "f": np.random.default_rng(0).normal(size=(3, 4)),
        "nan": np.array([np.nan, np.inf]),
        "i": np.arange(6, dtype=np.int32).reshape(2, 3).T,
        "none": np.zeros((0, 5), np.int64),
    }
    path = tmp_path / "a.safetensors"
    array_file.save(path, {"old": np.ones(2)})
    array_file.save(path, arrays)
    found = array_file.load(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.safetensors"
    array_file.save(path, {"x": np.ones(2)})
    with pytest.raises(Exception, match=r"[Oo]bject|dtype"):
        array_file.save(path, {"x": np.array([object()])})
    assert array_file.load(path)["x"].tolist() == [1, 1]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
def test_damage_is_named(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    array_file.save(path, {"x": np.arange(100.0)})
    whole = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(whole[:-50])
    if damage == "garbage":
        path.write_bytes(b"not safetensors at all")
    with pytest.raises(InputError, match=r"a\.safetensors cannot be read .*; write it again"):
        array_file.load(path)


def test_shapes_stay_as_they_are(tmp_path):
    arrays = {"scalar": np.float32(2), "turned": np.arange(6).reshape(2, 3).T, "none": np.zeros(0)}
    array_file.save(tmp_path / "arrays", arrays)
    for name, found in array_file.load(tmp_path / "arrays").items():
        np.testing.assert_array_equal(found, arrays[name], strict=True)
