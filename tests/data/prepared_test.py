import dataclasses
import json

import pytest

from optembed_jax.data import prepared
from optembed_jax.errors import InputError

MANIFEST = {
    "format": prepared.FORMAT,
    "options": {"min_count": 2, "raw_dir": "/a"},
    "shards": {"train": [{"sha256": "x"}]},
    "sources": [{"path": "/a/train.txt"}],
}


def test_the_fingerprint_is_of_the_content_and_not_of_where_it_came_from():
    def of(**changes):
        return prepared.fingerprint(MANIFEST | changes)

    assert of() == of(sources=[]) == of(options={"min_count": 2, "raw_dir": "/b"})
    others = [of(options={"min_count": 3}), of(shards={}), of(rejected=1)]
    assert len({of(), *others}) == 4


def test_a_sealed_manifest_is_read_and_any_other_refused(tmp_path):
    sealed = prepared.seal(MANIFEST)
    file = tmp_path / prepared.MANIFEST
    file.write_text(prepared.as_text(sealed))
    assert prepared.read_manifest(tmp_path) == sealed
    for text in (
        json.dumps(sealed),  # the same content, written otherwise
        prepared.as_text(sealed | {"rejected": 1}),
        prepared.as_text(MANIFEST),
        "",
        "[]",
        "null",
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=r"prepared\.json is damaged"):
            prepared.read_manifest(tmp_path)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"prepared\.json is damaged"):
        prepared.read_manifest(tmp_path)


def test_another_format_says_so(tmp_path):
    sealed = prepared.seal(MANIFEST | {"format": 99})
    (tmp_path / prepared.MANIFEST).write_text(prepared.as_text(sealed))
    with pytest.raises(InputError, match="was prepared in format 99, this version reads 2"):
        prepared.read_manifest(tmp_path)


def test_verify_names_the_first_bad_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    good = ("a", 3, prepared.sha256(tmp_path / "a"))
    prepared.verify(tmp_path, [good])
    for bad, message in (
        (("b", 1, ""), "b is missing"),
        (("a", 4, good[2]), "a has 3 bytes, it should have 4"),
        (("a", 3, "0" * 64), "a is damaged: its checksum differs"),
    ):
        with pytest.raises(InputError, match=message):
            prepared.verify(tmp_path, [good, bad])


def test_clicks_are_counted_from_the_rate():
    def of(rows, clicks):
        values = dict.fromkeys(field.name for field in dataclasses.fields(prepared.PreparedData))
        rates = {"test": clicks / rows}
        return prepared.PreparedData(**values | {"num_rows": {"test": rows}, "label_rate": rates})

    for rows, clicks in ((7, 1), (3, 2), (1_000_003, 999_999), (45_840_617, 11_745_671)):
        assert of(rows, clicks).clicks("test") == clicks
    with pytest.raises(InputError, match="no split"):
        of(3, 1).clicks("dev")


def test_split_names():
    assert prepared.check_split("train") == "train"
    with pytest.raises(InputError, match="no split 'valid'"):
        prepared.check_split("valid")
