import os

import pytest

from optembed_jax.data.raw import part_files
from optembed_jax.errors import InputError


def test_raw_files_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist; correct train_file"):
        part_files.part_files(str(tmp_path / "x"), "train_file")
    with pytest.raises(InputError, match="holds no files; correct train_file"):
        part_files.part_files(str(tmp_path), "train_file")
    with pytest.raises(InputError, match=r"holds no files; correct table_file"):
        part_files.part_files(str(tmp_path / "*.csv"), "table_file")


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
    found = part_files.part_files(str(tmp_path / "t"), "table_file", split=1)
    assert [(f.path.name, f.split, dict(f.partition)) for f in found] == [
        ("part-1.csv", 1, {"day": "2024-03-01", "place": None}),
        ("part-0.csv", 1, {"day": "2024-03-02", "place": "a/b"}),
    ]
    assert part_files.part_files(str(tmp_path / "t" / "day=*"), "table_file", split=1) == found
    (one,) = part_files.part_files(str(tmp_path / "t" / "**" / "part-0.csv"), "table_file")
    assert dict(one.partition) == {"day": "2024-03-02", "place": "a/b"}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "part-2.csv").write_text("x")
    for link, target in (("day=2024-03-03", "elsewhere"), ("day=2024-03-04", "t")):
        (tmp_path / "t" / link).mkdir()
        (tmp_path / "t" / link / "place=c").symlink_to(tmp_path / target)
    linked = part_files.part_files(str(tmp_path / "t"), "table_file", split=1)
    assert [file.path.name for file in linked] == ["part-1.csv", "part-0.csv", "part-2.csv"]
    assert dict(linked[-1].partition) == {"day": "2024-03-03", "place": "c"}
    (alone,) = part_files.part_files(str(one.path), "table_file")
    assert alone.partition == ()
    (tmp_path / "t" / "stray.csv").write_text("x")
    with pytest.raises(InputError, match=r"name different columns, none and day/place"):
        part_files.part_files(str(tmp_path / "t"), "table_file")


def test_names_in_folders_are_written_as_values_are(tmp_path):
    for name in ("my%20day=S%C3%A3o%3D1", "my%20day="):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-0.csv").write_text("x")
    found = part_files.part_files(str(tmp_path), "table_file")
    assert [file.partition for file in found] == [(("my day", None),), (("my day", "São=1"),)]


def test_a_part_that_cannot_be_read_is_not_passed_over(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "b.csv").symlink_to("gone.csv")
    for path in (str(tmp_path), str(tmp_path / "*.csv")):
        with pytest.raises(InputError, match=r"b\.csv is a link that leads nowhere"):
            part_files.part_files(path, "table_file")
    (tmp_path / "b.csv").unlink()
    os.mkfifo(tmp_path / "c.csv")
    with pytest.raises(InputError, match=r"c\.csv is no file"):
        part_files.part_files(str(tmp_path), "table_file")


def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"table_file=.*pipe is a pipe or a device"):
        part_files.part_files(str(tmp_path / "pipe"), "table_file")


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
            assert part_files.would_be_part(str(tmp_path / path), file) is expected, name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("a\n1\n")
    found = {part.path for part in part_files.part_files(str(tmp_path / path), "table_file")}
    assert found == {tmp_path / name for name in among}


def test_a_link_to_the_parts_is_seen_through(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "t")
    for path in ("link", "link/*.csv"):
        assert part_files.would_be_part(str(tmp_path / path), tmp_path / "t" / "a.csv")


def test_several_paths_stand_between_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.csv", "a.csv", "d/day=1/x.csv", "c,d.csv", "e/day=2/x.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    def names(path):
        return [str(file.path) for file in part_files.part_files(path, "table_file")]

    assert names("b.csv, a.csv,") == ["b.csv", "a.csv"]
    assert names("d,e") == ["d/day=1/x.csv", "e/day=2/x.csv"]
    assert names("[ab].csv") == ["a.csv", "b.csv"]
    assert names("c,d.csv") == ["c,d.csv"] == names("c,*.csv")
    whole = part_files.absolute("b.csv,a.csv")
    assert whole == f"{tmp_path}/b.csv,{tmp_path}/a.csv"
    assert names(whole) == [f"{tmp_path}/b.csv", f"{tmp_path}/a.csv"]
    assert part_files.would_be_part("b.csv,d", tmp_path / "d" / "scores.csv")
    assert not part_files.would_be_part("b.csv,d", tmp_path / "scores.csv")
    for path, message in (
        ("a.csv,none.csv", "none.csv does not exist; correct table_file"),
        ("a.csv,*.csv", r"names the file .*a\.csv more than once"),
        ("a.csv,d", "name different columns, none and day"),
    ):
        with pytest.raises(InputError, match=message):
            names(path)
    (tmp_path / "f,g").mkdir()
    monkeypatch.chdir(tmp_path / "f,g")
    with pytest.raises(InputError, match="with commas between them several paths cannot have some"):
        part_files.absolute("b.csv,a.csv")


def test_a_column_twice_in_folders_names_is_refused(tmp_path):
    (tmp_path / "day=1" / " day =2").mkdir(parents=True)
    (tmp_path / "day=1" / " day =2" / "a.csv").write_text("x")
    with pytest.raises(
        InputError, match=r"a\.csv lies in folders that name the column 'day' twice"
    ):
        part_files.part_files(str(tmp_path), "table_file")


def test_no_home_of_such_a_user_is_no_file():
    with pytest.raises(InputError, match="does not exist; correct table_file"):
        part_files.part_files("~no_such_user/a.csv", "table_file")
