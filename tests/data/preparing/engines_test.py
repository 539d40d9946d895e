"""What may be asked of engines; what Ray does is in ray_engine_test.py."""

import sys

import pytest

from optembed_jax import data
from optembed_jax.errors import InputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "spark"}, "engine must be local or ray, not 'spark'"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"engine_address": "auto"}, "engine_address .* needs engine=ray"),
    ],
)
def test_what_cannot_be_asked(options, message):
    with pytest.raises(InputError, match=message):
        data.EngineOptions(**options)


def test_an_engine_that_is_not_installed_is_told_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "optembed_jax.data.preparing.ray_engine", raising=False)
    monkeypatch.delitem(sys.modules, "optembed_jax.data.preparing.ray_cluster", raising=False)
    options = data.DataOptions(synthetic_rows=200)
    with pytest.raises(InputError, match=r"install 'optembed-jax\[ray\]'"):
        data.prepare(
            "synthetic", options, tmp_path / "out", engine=data.EngineOptions(engine="ray")
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "nobody answers there"),
        ("nowhere", "there is no Ray cluster that can be used"),
        ("ray://127.0.0.1:1", "run this on a machine of the cluster"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path, address, message):
    pytest.importorskip("ray", reason="needs the extra ray")
    engine = data.EngineOptions(engine="ray", engine_address=address)
    options = data.DataOptions(synthetic_rows=200)
    with pytest.raises(InputError, match=f"engine_address={address}: {message}"):
        data.prepare("synthetic", options, tmp_path / "out", engine=engine)
    assert not (tmp_path / "out").exists()
