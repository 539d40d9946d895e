import importlib.metadata
import platform

import pytest
from etils.epath import Path

from experiments.run import trained_under
from optembed_jax import __version__
from optembed_jax.errors import InputError


def test_a_phase_notes_the_versions_it_began_under_and_each_it_went_on_under(tmp_path, monkeypatch):
    folder = Path(tmp_path)
    assert trained_under.noted(folder) == []
    now = trained_under.current()
    assert now["python"] == platform.python_version() and now["optembed-jax"] == __version__
    assert now["jax"] == importlib.metadata.version("jax")
    for _ in range(2):
        trained_under.note(folder)
        assert trained_under.noted(folder) == [now]
    later = {**now, "jax": "99.0"}
    monkeypatch.setattr(trained_under, "current", lambda: later)
    trained_under.note(folder)
    trained_under.note(folder)
    assert trained_under.noted(folder) == [now, later]
    monkeypatch.undo()
    trained_under.note(folder)
    assert trained_under.noted(folder) == [now, later, now]


@pytest.mark.parametrize("text", ["[", "null", "3", "[1]", '["a"]'])
def test_a_damaged_note_is_told(text, tmp_path):
    (tmp_path / "versions.json").write_text(text)
    with pytest.raises(InputError, match=r"versions\.json cannot be read .* to run it again"):
        trained_under.note(Path(tmp_path))


def test_a_training_keeps_to_the_device_that_it_was_begun_on(tmp_path, monkeypatch):
    folder = Path(tmp_path) / "supernet"
    monkeypatch.setattr(trained_under, "kind_at_hand", lambda: "NVIDIA H200")
    assert trained_under.device(folder) == "NVIDIA H200"
    monkeypatch.undo()
    assert trained_under.device(folder) == "NVIDIA H200"
    # Earlier versions noted nothing, and went by what is a CPU's rule now.
    earlier = Path(tmp_path) / "earlier"
    (earlier / "checkpoints").mkdir(parents=True)
    monkeypatch.setattr(trained_under, "kind_at_hand", lambda: "NVIDIA H200")
    assert trained_under.device(earlier) == trained_under.device(earlier) == "cpu"


@pytest.mark.parametrize("text", ["[", "null", "3", "{}"])
def test_a_damaged_note_of_the_device_is_told(text, tmp_path):
    (tmp_path / "begun_on.json").write_text(text)
    with pytest.raises(InputError, match=r"begun_on\.json cannot be read .* to run it again"):
        trained_under.device(Path(tmp_path))
