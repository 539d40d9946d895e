import os
import pathlib

import pytest

from optembed_jax.errors import InputError
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


def test_what_a_killed_run_left_is_in_nobodys_way(tmp_path):
    for name in ("a", ".a.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("one")
    with replaced(tmp_path / "a") as folder:
        (folder / "file").write_text("two")
    assert (tmp_path / "a" / "file").read_text() == "two"
    assert (tmp_path / ".a.old" / "file").read_text() == "one"


def test_stopped_from_the_keyboard_between_the_renames(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("one")
    rename, names = pathlib.Path.rename, []

    def stopped(path, target):
        names.append(path.name)
        if len(names) == 2:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "a") as folder:
        (folder / "file").write_text("two")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a" / "file").read_text() == "one"


def test_links_that_lead_in_a_circle_are_told_and_stay(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match=r"cannot write .*loop"), replaced(tmp_path / "loop") as f:
        (f / "file").write_text("content")
    assert os.listdir(tmp_path) == ["loop"] and (tmp_path / "loop").is_symlink()
