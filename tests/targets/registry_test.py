import pytest

from optembed_jax.errors import InputError
from optembed_jax.targets.registry import TARGETS, Target, target_of


def test_an_unknown_format_is_refused_with_the_list():
    assert target_of("onnx") is TARGETS["onnx"]
    with pytest.raises(InputError, match=r"--format is one of bundle, onnx.*, not 'onyx'"):
        target_of("onyx")


def test_a_missing_library_is_told_with_the_extra_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / "target_of_nothing.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    target = Target("other", "target_of_nothing", "some", is_folder=False)
    with pytest.raises(InputError, match=r"package no_such_library.*'optembed-jax\[some\]'"):
        target.write(None, tmp_path / "x", takes_ids=False)
