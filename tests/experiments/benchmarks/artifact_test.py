"""What the benchmark takes from files and commands; its figures are measured by running it."""

import pytest

from experiments.benchmarks.artifact import __main__ as artifact
from experiments.benchmarks.artifact import server
from optembed_jax.errors import InputError


def test_rows_of_a_file_over_and_over(tmp_path):
    (tmp_path / "rows.csv").write_text('a,b\n1,"x,y"\n2,\n3,z\n', encoding="utf-8")
    rows = server.rows_of(str(tmp_path / "rows.csv"))
    assert rows == {"a": ["1", "2", "3"], "b": ["x,y", "", "z"]}
    assert server.taken(rows, 2, 4) == {"a": ["3", "1", "2", "3"], "b": ["z", "x,y", "", "z"]}


def test_what_is_measured_of_a_server():
    class Loaded:
        def predict(self, rows):
            return [0.5] * len(rows["a"])

    found = server.measure("bundle", {"a": ["1", "2"]}, lambda path: Loaded())
    assert set(found) >= {"load_seconds", "memory", "one_row_ms", "raw_rows_per_second"}
    assert found["raw_rows_per_second"] > server.BATCH and found["one_row_ms"] < 1e3


def test_bytes_of_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"4")
    assert artifact.folder_bytes(tmp_path) == 4


def test_a_command_that_fails_is_told():
    with pytest.raises(InputError, match=r"experiments.export.* failed: .*--workdir"):
        artifact.command("export")


def test_what_was_made_is_not_made_again(tmp_path):
    (tmp_path / "told.json").write_text('{"auc": 0.5}', encoding="utf-8")
    assert artifact.made(tmp_path, ()) == {"auc": 0.5}
