import hashlib
import json

import pytest
from etils import epath

from optembed_jax.errors import InputError
from optembed_jax.storage import state_manifest


@pytest.fixture
def state(tmp_path):
    """A finished folder of two files, one of them empty, the other in a folder."""
    (tmp_path / "d").mkdir()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "d" / "array").write_bytes(b"numbers")
    state_manifest.write(epath.Path(tmp_path), {"position": {"batch": 3}})
    return tmp_path


def test_a_manifest_lists_the_files_beside_what_is_kept_with_them(state):
    manifest = state_manifest.verify(state)
    assert manifest["position"] == {"batch": 3}
    assert manifest["files"] == {
        name: [len(content), hashlib.sha256(content).hexdigest()]
        for name, content in (("empty", b""), ("d/array", b"numbers"))
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "d" / "array").write_bytes(b"numbere"), "array is damaged: its checksum"),
        (
            lambda f: (f / "d" / "array").write_bytes(b"number"),
            "array has 6 bytes, it should have 7",
        ),
        (lambda f: (f / "empty").write_bytes(b"x"), "empty has 1 bytes, it should have 0"),
        (lambda f: (f / "empty").unlink(), "empty is missing"),
        (lambda f: (f / "manifest.json").unlink(), r"was never finished: it has no manifest\.json"),
        (lambda f: (f / "manifest.json").write_text("{"), r"manifest\.json is damaged: it cannot"),
        (lambda f: (f / "manifest.json").write_text("{}"), r"manifest\.json is damaged"),
        (lambda f: edit(f / "manifest.json", position={"batch": 4}), "damaged: its checksum"),
    ],
)
def test_no_change_of_a_state_or_its_manifest_passes(state, change, message):
    change(state)
    with pytest.raises(InputError, match=message):
        state_manifest.verify(state)


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes, indent=1) + "\n")


def test_what_is_removed_looks_unfinished_before_it_is_gone(state, monkeypatch):
    assert state_manifest.is_finished(state)
    kind, seen = type(epath.Path(state)), []
    rmtree = kind.rmtree

    def watched(path):
        seen.append(state_manifest.is_finished(path))
        rmtree(path)

    monkeypatch.setattr(kind, "rmtree", watched)
    state_manifest.remove(state)
    assert seen == [False] and not state.exists()
    state_manifest.remove(state / "nowhere")
