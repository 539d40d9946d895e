import os
import pathlib

import jax
import numpy as np
import pytest
from future_module import from_the_future, put_module

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving import bundle_writer
from optembed_jax.serving.bundle import Bundle, BundleError
from optembed_jax.serving.bundle_writer import refresh_module, write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.forward_module import ForwardRebuilt

FIELDS = Fields(("a", "b"), (4, 3))
CONFIG = ModelConfig(model="fm", latent_dim=2)


@pytest.fixture
def parts():
    params, batch_stats = init_params(jax.random.key(0), CONFIG, FIELDS)
    small, index = compact(CONFIG, params, FIELDS, np.arange(7) % 2 == 0, None)
    return CONFIG, small, batch_stats, index, FIELDS


@pytest.fixture
def check(parts):
    config, small, batch_stats, index, _ = parts
    ids = np.array([[0, 4], [3, 6]], np.int32)
    return ids, np.asarray(forward(config, small, batch_stats, ids, index)[0])


def test_disagreement_with_the_live_model_leaves_nothing(parts, check, tmp_path):
    ids, logits = check
    with pytest.raises(BundleError, match=r"for row 1, the live model .*; nothing was written"):
        write_bundle(tmp_path / "b", *parts, check=(ids, logits + np.array([0, 1e-3], np.float32)))
    assert os.listdir(tmp_path) == []
    with pytest.raises(BundleError, match="the live model nan"):
        write_bundle(tmp_path / "b", *parts, check=(ids, np.full(2, np.nan, np.float32)))


def test_a_bundle_is_replaced_and_anything_else_is_not(parts, check, tmp_path):
    write_bundle(tmp_path / "b", *parts)
    write_bundle(tmp_path / "b", *parts, check=check)
    assert os.listdir(tmp_path) == ["b"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="exists and is no bundle"):
        write_bundle(tmp_path / "mine", *parts)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_what_lies_beside_a_bundles_files_is_not_lost(parts, tmp_path):
    write_bundle(tmp_path / "b", *parts)
    (tmp_path / "b" / "notes.txt").write_text("dear")
    for write in (
        lambda: write_bundle(tmp_path / "b", *parts),
        lambda: refresh_module(tmp_path / "b", tmp_path / "b"),
    ):
        with pytest.raises(InputError, match=r"more in it than a bundle, such as 'notes.txt'"):
            write()
        assert (tmp_path / "b" / "notes.txt").read_text() == "dear"
    (tmp_path / "images").mkdir()  # Whoever publishes files writes such a list.
    (tmp_path / "images" / "SHA256SUMS").write_text("")
    with pytest.raises(InputError, match="exists and is no bundle"):
        refresh_module(tmp_path / "b", tmp_path / "images")


def test_a_link_to_a_bundle_stays_one(parts, check, tmp_path):
    write_bundle(tmp_path / "real", *parts)
    (tmp_path / "current").symlink_to("real")
    before = (tmp_path / "real").stat().st_ino
    write_bundle(tmp_path / "current", *parts, check=check)
    assert sorted(os.listdir(tmp_path)) == ["current", "real"]
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "real").stat().st_ino != before
    Bundle.load(tmp_path / "current")


def test_where_the_new_bundle_cannot_take_its_name_the_old_one_stays(parts, tmp_path, monkeypatch):
    write_bundle(tmp_path / "b", *parts)
    before = (tmp_path / "b").stat().st_ino
    rename, names = pathlib.Path.rename, []

    def refuse(path, target):
        names.append(path.name)
        if len(names) == 2:  # the new one, when the old one is out of the way
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", refuse)
    with pytest.raises(InputError, match="nothing was left"):
        write_bundle(tmp_path / "b", *parts)
    assert os.listdir(tmp_path) == ["b"] and (tmp_path / "b").stat().st_ino == before


def test_a_failed_replacement_keeps_the_old_bundle(parts, check, tmp_path):
    write_bundle(tmp_path / "b", *parts, check=check)
    before = (tmp_path / "b" / "SHA256SUMS").read_bytes()
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "b", *parts, check=(check[0], check[1] + 1))
    assert (tmp_path / "b" / "SHA256SUMS").read_bytes() == before
    Bundle.load(tmp_path / "b")


def test_a_full_disk_is_told_and_leaves_nothing(parts, tmp_path, monkeypatch):
    def full(files):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_writer.layout, "format_sums", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_bundle(tmp_path / "b", *parts)
    assert os.listdir(tmp_path) == []


def test_a_target_that_cannot_be_made(parts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        write_bundle(tmp_path / "file" / "b", *parts)


def test_refuses_a_full_model(parts, tmp_path):
    config, _, batch_stats, index, fields = parts
    params, _ = init_params(jax.random.key(0), config, fields)
    with pytest.raises(InputError, match="holds a compact model"):
        write_bundle(tmp_path / "b", config, params, batch_stats, index, fields)


def test_the_card_says_what_is_in_it(parts, tmp_path):
    write_bundle(tmp_path / "b", *parts)
    card = (tmp_path / "b" / "README.md").read_text()
    assert "# fm on an unnamed data set" in card
    # Of the first field two that are kept, and what pruned ids read; of the other one, whose OOV
    # row is pruned, what stands for it and the two that are kept.
    assert "It has 6 rows of a table of 7. They take 48 bytes (float32), against 56" in card
    assert "| a | 3 | 2 | float32 |" in card


def test_a_refreshed_bundle_has_a_module_that_jax_takes(parts, check, tmp_path, capfd):
    write_bundle(tmp_path / "b", *parts, check=check)
    before = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    put_module(tmp_path / "b", from_the_future)
    refresh_module(tmp_path / "b", tmp_path / "b")  # which warns of nothing
    found = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert found == before and os.listdir(tmp_path) == ["b"]
    refresh_module(tmp_path / "b", tmp_path / "other", ["cpu"])
    np.testing.assert_allclose(Bundle.load(tmp_path / "other").logits(check[0]), check[1])
    other = (tmp_path / "other" / "weights.safetensors").read_bytes()
    assert other == before["weights.safetensors"]
    capfd.readouterr()  # What MLIR prints about the module from the future.


def test_a_refresh_that_fails_leaves_the_bundle(parts, tmp_path, monkeypatch):
    write_bundle(tmp_path / "b", *parts)
    before = (tmp_path / "b" / "SHA256SUMS").read_bytes()
    monkeypatch.setattr(bundle_writer, "export_forward", lambda *arguments: b"nothing")
    with pytest.raises(ForwardRebuilt):
        refresh_module(tmp_path / "b", tmp_path / "b")
    assert (tmp_path / "b" / "SHA256SUMS").read_bytes() == before
    assert os.listdir(tmp_path) == ["b"]
