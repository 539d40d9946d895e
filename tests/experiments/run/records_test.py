import json

import pytest

from experiments.run.records import append_jsonl, read_json, run_again, write_json, write_jsonl
from optembed_jax.errors import InputError


def test_metrics_of_a_run_that_goes_on_are_cut_to_where_it_was(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for number in range(3):
        append_jsonl(path, {"epoch": number})
    write_jsonl(path, [{"epoch": 0}])
    append_jsonl(path, {"epoch": 1})
    assert path.read_text() == '{"epoch": 0}\n{"epoch": 1}\n'


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read"),
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "holds"),
    ],
)
def test_what_is_no_object_is_refused_with_the_way_out(tmp_path, content, what):
    path = tmp_path / "supernet" / "result.json"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    way_out = run_again(path.parent)
    with pytest.raises(InputError, match=rf"result\.json {what}.*; remove \S+/supernet to run it"):
        read_json(path, way_out)
    write_json(path, {"a": [1.5, None]})
    assert read_json(path, way_out) == {"a": [1.5, None]}
