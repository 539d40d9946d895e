import concurrent.futures
import importlib.util
import os
import subprocess
import sys

import pytest

from optembed_jax.errors import InputError
from optembed_jax.storage import object_store

# A process of its own, as every client of a bucket keeps threads and an event loop.
CHECKED = """
import jax, jax.numpy as jnp, numpy as np, pathlib, sys
from optembed_jax.storage import array_file
from optembed_jax.storage import object_store
from optembed_jax.storage import state_manifest
from optembed_jax.training.checkpoint import Checkpoints
from optembed_jax.errors import InputError

folder = object_store.path_of(sys.argv[1])
assert str(folder) == sys.argv[1] and not folder.exists()

# Files: whole, replaced, without temporary names left beside them.
for content in (b"one\\r\\n", b"", bytes(range(256)) * 2000):
    object_store.write_whole(folder / "file", content)
    assert (folder / "file").read_bytes() == content
array_file.save(folder / "arrays.safetensors", {"x": np.arange(3)})
assert array_file.load(folder / "arrays.safetensors")["x"].tolist() == [0, 1, 2]
assert sorted(path.name for path in folder.iterdir()) == ["arrays.safetensors", "file"]

# Folders: made elsewhere, delivered with the last file last, fetched again.
target = folder / "bundle"
for names in (("a", "b", "sums"), ("b", "sums")):
    with object_store.delivered(target, "sums") as made:
        made.mkdir()
        for name in names:
            (made / name).write_bytes(name.encode())
    with object_store.fetched(target) as copy:
        assert sorted(path.name for path in copy.iterdir()) == list(names)
        assert (copy / "b").read_bytes() == b"b"
    assert not copy.exists()
try:
    with object_store.delivered(folder, "sums"):
        raise SystemExit("it was taken for a bundle")
except InputError as error:
    assert "exists and has no sums" in str(error)

# Checkpoints: the arrays go through TensorStore's own client.
state = {"x": jax.random.normal(jax.random.key(0), (40_000,)), "key": jax.random.key(1)}
like = jax.eval_shape(lambda: state)
checkpoints = Checkpoints(folder / "checkpoints")
for step in (1, 2, 3):
    checkpoints.save(step, {**state, "x": state["x"] + step}, {"batch": step})
checkpoints.wait()
checkpoints.close()
assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["2", "3"]
found = Checkpoints(folder / "checkpoints").latest(like)
assert (found.step, found.position) == (3, {"batch": 3})
assert (np.asarray(found.state["x"]) == np.asarray(state["x"] + 3)).all()
assert jax.random.bits(found.state["key"]) == jax.random.bits(state["key"])
files = state_manifest.verify(folder / "checkpoints" / "3")["files"]
file = folder / "checkpoints" / "3" / max(files, key=lambda name: files[name][0])
object_store.write_whole(file, file.read_bytes()[:-1] + b"?")
told = []
assert Checkpoints(folder / "checkpoints").latest(like, told.append).step == 2
assert len(told) == 1 and f"{file} is damaged" in told[0], told
print("all of it held")
"""


def test_a_bucket_holds_files_folders_and_checkpoints(bucket):
    command = [sys.executable, "-W", "ignore", "-c", CHECKED, f"{bucket}/files"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "all of it held" in done.stdout, done.stderr


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "file"
    object_store.write_whole(file, b"before")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        object_store.write_whole(file, b"after")
    assert file.read_bytes() == b"before" and list(tmp_path.iterdir()) == [file]


def test_links_and_pipes_stay_what_they_are(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    for content in (b"new", b"again"):  # first where it leads to nothing yet
        object_store.write_whole(link, content)
        assert link.is_symlink() and (tmp_path / "there" / "file").read_bytes() == content
    assert os.listdir(tmp_path / "there") == ["file"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_bytes)
        object_store.write_whole(pipe, b"content")
        assert read.result(timeout=60) == b"content" and pipe.is_fifo()
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(OSError, match="symbolic link"):
        object_store.write_whole(link, b"content")
    assert link.is_symlink()


def test_folders_of_a_file_system_are_where_they_are(tmp_path):
    path = object_store.path_of(tmp_path)
    with object_store.fetched(path) as fetched, object_store.delivered(path, "x") as delivered:
        assert fetched == delivered == tmp_path
    assert object_store.path_of("~/x").is_absolute() and not object_store.in_bucket(path)


@pytest.mark.parametrize(
    "name", ["s3://bucket/x", "http://host/x", "gs://", "gs://bucket/", "gs://b/x"]
)
def test_what_names_no_folder_is_refused(name):
    with pytest.raises(InputError, match=r"begin with gs:|names no folder of a bucket"):
        object_store.path_of(name)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"^gs://bucket/x needs .*pip install 'optembed-jax\[gcp\]'$"
    ):
        object_store.path_of("gs://bucket/x")


def test_what_is_read_as_files_says_how_to_get_it_out_of_a_bucket(tmp_path):
    assert object_store.in_file_system(tmp_path, "--data_dir") == tmp_path
    for empty in ("", " "):
        with pytest.raises(InputError, match="--data_dir is empty; name a path"):
            object_store.in_file_system(empty, "--data_dir")
    with pytest.raises(InputError, match=r"^--data_dir=gs://b/x: .* rsync .*gs://b/x DIR`$"):
        object_store.in_file_system("gs://b/x", "--data_dir")
