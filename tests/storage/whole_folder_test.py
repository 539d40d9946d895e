import os

import pytest

from optembed_jax.storage.whole_folder import replaced


def test_a_folder_takes_its_name_when_all_went_well(tmp_path):
    target = tmp_path / "in" / "a"
    with replaced(target) as folder:
        (folder / "file").write_text("one")
        assert not target.exists()
    with replaced(target) as folder:
        assert os.listdir(folder) == [] and (target / "file").read_text() == "one"
        (folder / "other").write_text("two")
    assert os.listdir(tmp_path / "in") == ["a"] and os.listdir(target) == ["other"]


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("one")
    with pytest.raises(KeyError), replaced(tmp_path / "a") as folder:
        (folder / "half").write_text("")
        raise KeyError("x")
    assert os.listdir(tmp_path) == ["a"] and os.listdir(tmp_path / "a") == ["file"]
