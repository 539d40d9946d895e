import hashlib
import os

import pytest

from optembed_jax.data.raw import files
from optembed_jax.errors import InputError


def test_identity_of_a_file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc" * 3_000_000)
    found = files.identify(files.RawFile(path))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.size, found.path) == (9_000_000, str(path))
    asked = iter([False, True])
    cut = files.identify(files.RawFile(path), lambda: next(asked))
    assert cut.sha256 != found.sha256


def test_raw_files_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist; correct train_file"):
        files.part_files(str(tmp_path / "x"), "train_file")
    with pytest.raises(InputError, match="holds no files; correct train_file"):
        files.part_files(str(tmp_path), "train_file")
    with pytest.raises(InputError, match=r"holds no files; correct table_file"):
        files.part_files(str(tmp_path / "*.csv"), "table_file")


def test_the_parts_of_a_table(tmp_path):
    for name in (
        "t/day=2024-03-02/place=a%2Fb/part-0.csv",
        "t/day=2024-03-01/place=__HIVE_DEFAULT_PARTITION__/part-1.csv",
        "t/day=2024-03-01/place=__HIVE_DEFAULT_PARTITION__/.part-1.csv.crc",
        "t/_SUCCESS",
        "t/_temporary/0/part-9.csv",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = files.part_files(str(tmp_path / "t"), "table_file", split=1)
    assert [(f.path.name, f.split, dict(f.partition)) for f in found] == [
        ("part-1.csv", 1, {"day": "2024-03-01", "place": None}),
        ("part-0.csv", 1, {"day": "2024-03-02", "place": "a/b"}),
    ]
    assert files.part_files(str(tmp_path / "t" / "day=*"), "table_file", split=1) == found
    (one,) = files.part_files(str(tmp_path / "t" / "**" / "part-0.csv"), "table_file")
    assert dict(one.partition) == {"day": "2024-03-02", "place": "a/b"}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "part-2.csv").write_text("x")
    for link, target in (("day=2024-03-03", "elsewhere"), ("day=2024-03-04", "t")):
        (tmp_path / "t" / link).mkdir()
        (tmp_path / "t" / link / "place=c").symlink_to(tmp_path / target)
    linked = files.part_files(str(tmp_path / "t"), "table_file", split=1)
    assert [file.path.name for file in linked] == ["part-1.csv", "part-0.csv", "part-2.csv"]
    assert dict(linked[-1].partition) == {"day": "2024-03-03", "place": "c"}
    (alone,) = files.part_files(str(one.path), "table_file")
    assert alone.partition == ()
    (tmp_path / "t" / "stray.csv").write_text("x")
    with pytest.raises(InputError, match=r"name different columns, none and day/place"):
        files.part_files(str(tmp_path / "t"), "table_file")


def test_names_in_folders_are_written_as_values_are(tmp_path):
    for name in ("my%20day=S%C3%A3o%3D1", "my%20day="):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-0.csv").write_text("x")
    found = files.part_files(str(tmp_path), "table_file")
    assert [file.partition for file in found] == [(("my day", None),), (("my day", "São=1"),)]


def test_a_part_that_cannot_be_read_is_not_passed_over(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "b.csv").symlink_to("gone.csv")
    for path in (str(tmp_path), str(tmp_path / "*.csv")):
        with pytest.raises(InputError, match=r"b\.csv is a link that leads nowhere"):
            files.part_files(path, "table_file")
    (tmp_path / "b.csv").unlink()
    os.mkfifo(tmp_path / "c.csv")
    with pytest.raises(InputError, match=r"c\.csv is no file"):
        files.part_files(str(tmp_path), "table_file")


def test_the_first_pattern_that_matches_decides(tmp_path):
    for name in ("train_2.txt", "train_1.txt", "test.txt"):
        (tmp_path / name).write_text("x")
    found = files.find_files(str(tmp_path), ("train.txt", "train*.txt", "*"), "Put it here.")
    assert [file.path.name for file in found] == ["train_1.txt", "train_2.txt"]
    (one,) = files.find_files(str(tmp_path / "test.txt"), ("train.txt",), "")
    assert one.path.name == "test.txt"
    with pytest.raises(InputError, match=r"holds no a or b\. Put it here"):
        files.find_files(str(tmp_path), ("a", "b"), "Put it here.")


def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"table_file=.*pipe is a pipe or a device"):
        files.part_files(str(tmp_path / "pipe"), "table_file")


@pytest.mark.parametrize(
    ("path", "among", "not_among"),
    [
        ("t", ("t/a.csv", "t/x/a.csv"), ("a.csv", "u/a.csv", "t/_a.csv", "t/.x/a.csv")),
        ("t/*.csv", ("t/a.csv",), ("t/a.txt", "t/x/a.csv", "a.csv", "t/_a.csv")),
        ("t/day=*", ("t/day=1/a.csv", "t/day=1/x/a.csv"), ("t/a.csv", "t/day=1/_a.csv")),
        ("t/**/*.csv", ("t/a.csv", "t/x/y/a.csv"), ("t/a.txt", "u/a.csv", "t/_x/a.csv")),
        ("t/[ab].csv", ("t/a.csv",), ("t/c.csv",)),
    ],
)
def test_a_file_would_be_a_part_where_it_is_one_once_it_is_there(tmp_path, path, among, not_among):
    (tmp_path / "t").mkdir()
    for names, expected in ((among, True), (not_among, False)):
        for name in names:
            file = tmp_path / name
            assert files.would_be_part(str(tmp_path / path), file) is expected, name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("a\n1\n")
    found = {part.path for part in files.part_files(str(tmp_path / path), "table_file")}
    assert found == {tmp_path / name for name in among}


def test_a_link_to_the_parts_is_seen_through(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "t")
    for path in ("link", "link/*.csv"):
        assert files.would_be_part(str(tmp_path / path), tmp_path / "t" / "a.csv")
