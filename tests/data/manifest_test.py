import json

import pytest

from optembed_jax.data import manifest
from optembed_jax.errors import InputError
from optembed_jax.storage import checksum

MANIFEST = {
    "format": manifest.FORMAT,
    "options": {"min_count": 2, "raw_dir": "/a"},
    "shards": {"train": [{"sha256": "x"}]},
    "sources": [{"path": "/a/train.txt"}],
}


def test_the_fingerprint_is_of_the_content_and_not_of_where_it_came_from():
    def of(**changes):
        return manifest.fingerprint(MANIFEST | changes)

    assert of() == of(sources=[]) == of(options={"min_count": 2, "raw_dir": "/b"})
    others = [of(options={"min_count": 3}), of(shards={}), of(rejected=1)]
    assert len({of(), *others}) == 4


def test_a_sealed_manifest_is_read_and_any_other_refused(tmp_path):
    sealed = manifest.seal(MANIFEST)
    file = tmp_path / manifest.MANIFEST
    file.write_text(manifest.as_text(sealed))
    assert manifest.read_manifest(tmp_path) == sealed
    for text in (
        json.dumps(sealed),  # the same content, written otherwise
        manifest.as_text(sealed | {"rejected": 1}),
        manifest.as_text(MANIFEST),
        "",
        "[]",
        "null",
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=r"prepared\.json is damaged"):
            manifest.read_manifest(tmp_path)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"prepared\.json is damaged"):
        manifest.read_manifest(tmp_path)


@pytest.mark.parametrize("left", [(), (manifest.VOCABULARY,), ("features.json", "notes.txt")])
def test_what_is_left_of_a_prepared_folder_is_to_be_deleted(tmp_path, left):
    for name in left:
        (tmp_path / name).write_text("")
    message = rf"prepared\.json is missing\); delete the folder {tmp_path} and prepare the data"
    with pytest.raises(InputError, match=message):
        manifest.read_manifest(tmp_path)


def test_nobody_is_told_to_delete_what_was_never_prepared(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    for path in (tmp_path, tmp_path / "thesis.tex", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="holds no prepared data set") as refused:
            manifest.read_manifest(path)
        assert str(refused.value).endswith("; name the folder of one")


def test_another_format_says_so(tmp_path):
    sealed = manifest.seal(MANIFEST | {"format": 99})
    (tmp_path / manifest.MANIFEST).write_text(manifest.as_text(sealed))
    with pytest.raises(InputError, match="was prepared in format 99, this version reads 2"):
        manifest.read_manifest(tmp_path)


def test_verify_names_the_first_bad_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    good = ("a", 3, checksum.sha256(tmp_path / "a"))
    manifest.verify_files(tmp_path, [good])
    for bad, message in (
        (("b", 1, ""), "b is missing"),
        (("a", 4, good[2]), "a has 3 bytes, it should have 4"),
        (("a", 3, "0" * 64), "a is damaged: its checksum differs"),
    ):
        with pytest.raises(InputError, match=message):
            manifest.verify_files(tmp_path, [good, bad])
