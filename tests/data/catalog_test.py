"""Preparation as a whole: reuse, damage, interruption, competition, full disks."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.data import catalog
from optembed_jax.data import options as options_module
from optembed_jax.errors import InputError

SMALL = data.DataOptions(synthetic_rows=3_000, synthetic_field_size=50)

# Starting Python and importing take longer than preparing: this process has done so, and forks one
# that prepares for each line it reads. Its answer is the process, then (asked for) its exit status.
SERVER = """
import os, resource, sys
from optembed_jax import data
from optembed_jax.data import catalog

def prepare(raw_dir, out, answer, limit):
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        options = data.DataOptions(raw_dir=raw_dir, min_count=1)
        print(data.prepare("criteo_display", options, out).fingerprint, file=sys.stderr)
        return 0
    except catalog.InputError as error:
        os.write(answer, f"error: {error}".encode())
        return 2

for line in sys.stdin:
    command, *words = line.split()
    if command == "prepare":
        raw_dir, out, answer, limit = words
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                reply = os.open(answer, os.O_WRONLY | os.O_CREAT)
                status = prepare(raw_dir, out, reply, int(limit))
            finally:
                os._exit(status)
        print(pid, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(int(words[0]), 0)[1]), flush=True)
"""


class Server:
    def __init__(self, folder):
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _ask(self, *words):
        print(*words, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def start(self, raw_dir, out, answer="answer", limit=0):
        return self._ask("prepare", raw_dir, out, self.folder / answer, limit)

    def wait(self, pid):
        return self._ask("wait", pid)

    def answer(self, name="answer"):
        return (self.folder / name).read_text()

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A prepared data set; tests copy it before they harm it."""
    return data.prepare("synthetic", SMALL, tmp_path_factory.mktemp("built"))


@pytest.fixture
def copy(built, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(built.path, path)
    return path


@pytest.fixture
def raw_dir(tmp_path, criteo_rows, write_table):
    (tmp_path / "raw").mkdir()
    write_table(criteo_rows(4_000), "raw/train.txt", "\t")
    return tmp_path / "raw"


def final_folders(out):
    return [p for p in pathlib.Path(out).glob("criteo_display/*/2.0.0") if p.is_dir()]


def test_a_second_call_loads_what_the_first_made(tmp_path):
    told = []
    first = data.prepare("synthetic", SMALL, tmp_path, told.append)
    assert {p.stage for p in told} == {"reading", "vocabulary", "encoding", "writing"}
    last = [p for p in told if p.stage == "writing"][-1]
    assert last.done == last.total and last.rows == 3_000 and last.seconds_left == 0
    before = {p: p.stat().st_mtime_ns for p in first.path.iterdir()}
    told.clear()
    second = data.prepare("synthetic", SMALL, tmp_path, told.append)
    assert not told
    assert {p: p.stat().st_mtime_ns for p in second.path.iterdir()} == before
    assert second.fingerprint == first.fingerprint
    assert not [p for p in tmp_path.rglob("*") if "incomplete" in p.name or "lock" in p.name]


def test_other_options_get_another_folder(tmp_path, built):
    other = data.DataOptions(synthetic_rows=3_000, synthetic_field_size=50, min_count=3)
    found = data.prepare("synthetic", other, tmp_path)
    assert found.path.parent.name != built.path.parent.name
    assert found.fingerprint != built.fingerprint


def test_tensorflow_datasets_reads_the_folder(built):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(built.path))
    source = builder.as_data_source("train")
    ids, labels = built.arrays("train")
    assert len(source) == -(-len(ids) // 1024)
    np.testing.assert_array_equal(source[0]["ids"], ids[:1024])
    np.testing.assert_array_equal(source[len(source) - 1]["labels"], labels[-len(labels) % -1024 :])
    assert builder.info.description.startswith("Rows drawn from")


def test_load_gives_what_prepare_gave(built, copy):
    found = data.load(copy)
    assert found.fingerprint == built.fingerprint and found.fields == built.fields
    np.testing.assert_array_equal(found.counts, built.counts)
    assert found.options == built.options and found.facts == built.facts


def data_files(path):
    return sorted(p for p in path.iterdir() if "array_record" in p.name or "vocab" in p.name)


def test_every_kind_of_damage_is_named(copy):
    rng = np.random.default_rng(0)
    files = [*data_files(copy), copy / "prepared.json"]
    assert len(files) == 5
    for file in files:
        whole = file.read_bytes()
        for _ in range(10):  # a flipped bit anywhere
            place = int(rng.integers(len(whole)))
            changed = bytes([whole[place] ^ (1 << int(rng.integers(8)))])
            file.write_bytes(whole[:place] + changed + whole[place + 1 :])
            with pytest.raises(InputError, match=file.name):
                data.load(copy)
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:length])
            with pytest.raises(InputError, match=file.name):
                data.load(copy)
        file.write_bytes(whole + b"\0")
        if file.name != "prepared.json":
            with pytest.raises(InputError, match=f"{file.name} has"):
                data.load(copy)
        file.unlink()
        with pytest.raises(InputError, match=f"{file.name}.* is missing"):
            data.load(copy)
        file.write_bytes(whole)
    data.load(copy)


def test_damage_since_the_last_run_is_found_before_the_next_one_begins(tmp_path):
    shard = data_files(data.prepare("synthetic", SMALL, tmp_path).path)[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=f"{shard.name} is damaged: .*; delete the folder"):
        data.prepare("synthetic", SMALL, tmp_path)
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name} is missing; delete the folder"):
        data.prepare("synthetic", SMALL, tmp_path)


def test_a_manifest_that_was_edited_is_refused(copy):
    path = copy / "prepared.json"
    manifest = json.loads(path.read_text())
    manifest["num_rows"]["train"] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="its checksum differs; delete the folder"):
        data.load(copy)
    path.write_text("[]")
    with pytest.raises(InputError, match=r"prepared\.json is damaged"):
        data.load(copy)


@pytest.mark.parametrize("data_dir", ["", "  "])
def test_the_current_folder_is_not_meant_by_nothing(tmp_path, monkeypatch, data_dir):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="data_dir must be a folder, not an empty text"):
        data.prepare("synthetic", SMALL, data_dir)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(InputError, match="holds no prepared data set"):
        data.load(tmp_path)
    with pytest.raises(InputError, match="no data set 'nope'"):
        data.prepare("nope", data.DataOptions(), tmp_path)


def test_raw_files_that_changed_are_prepared_beside(tmp_path, raw_dir):
    options = data.DataOptions(raw_dir=str(raw_dir))
    first = data.prepare("criteo_display", options, tmp_path / "out")
    file = raw_dir / "train.txt"
    content = file.read_bytes()
    file.write_bytes(content)  # another time of change, the same content
    assert data.prepare("criteo_display", options, tmp_path / "out").path == first.path
    file.write_bytes(content.replace(b"0000abcd", b"0000abce", 1))
    assert data.changed_file(first) == file
    second = data.prepare("criteo_display", options, tmp_path / "out")
    assert second.path.parent.name == first.path.parent.name + "-2"
    assert second.fingerprint != first.fingerprint and data.changed_file(second) is None
    assert data.load(first.path).fingerprint == first.fingerprint
    # The same size and time of change, which programs may set, say nothing of the content.
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert data.changed_file(second) == file and data.changed_file(first) is None
    file.write_bytes(content.replace(b"0000abcd", b"0000abce", 1))
    # A run goes on with what it was begun with, also from a folder where its paths lead nowhere.
    for path in (str(raw_dir), str(tmp_path / "elsewhere")):
        begun = data.prepare(
            "criteo_display",
            data.DataOptions(raw_dir=path),
            tmp_path / "out",
            fingerprint=first.fingerprint,
        )
        assert begun.path == first.path
    with pytest.raises(InputError, match="not a folder"):
        data.prepare(
            "criteo_display",
            data.DataOptions(raw_dir=str(tmp_path / "elsewhere"), min_count=7),
            tmp_path / "out",
            fingerprint=first.fingerprint,
        )
    file.write_bytes(content)  # what was there once is not prepared again
    assert data.prepare("criteo_display", options, tmp_path / "out").path == first.path
    file.unlink()  # the raw text may be deleted once it is prepared
    assert data.prepare("criteo_display", options, tmp_path / "out").path == second.path
    assert len(list((tmp_path / "out" / "criteo_display").iterdir())) == 2


def test_data_of_an_older_spelling_of_an_encoding_are_found_by_their_fingerprint(
    tmp_path, monkeypatch
):
    """Options were recorded as they were spelled, and runs name the fingerprint of those."""
    (file := tmp_path / "log.csv").write_bytes(
        "\n".join(["y,u", *(f"{n % 2},\xfc{n % 7}" for n in range(200))]).encode("cp1252")
    )

    def prepared(**options):
        asked = data.DataOptions(
            table_file=str(file), label="y", categorical=("u",), encoding="windows-1252"
        )
        return data.prepare("table", asked, tmp_path / "out", **options)

    with monkeypatch.context() as older:
        older.setattr(options_module, "usual_encoding", lambda name: name)
        first = prepared()
    assert first.options["encoding"] == "windows-1252"
    assert prepared(fingerprint=first.fingerprint).path == first.path
    anew = prepared()
    assert anew.options["encoding"] == "cp1252" and anew.path != first.path


def test_a_further_part_in_raw_dir_is_noticed(tmp_path, criteo_rows, write_table):
    (tmp_path / "raw").mkdir()
    options = data.DataOptions(raw_dir=str(tmp_path / "raw"))
    rows, found = criteo_rows(1_600), []
    for number in range(3):
        if number < 2:
            write_table(rows[number * 800 :][:800], f"raw/train_{number}.txt", "\t")
        found.append(data.prepare("criteo_display", options, tmp_path / "out"))
    assert [sum(prepared.num_rows.values()) for prepared in found] == [800, 1_600, 1_600]
    assert found[1].path == found[2].path


def test_killed_at_any_moment_leaves_nothing_or_all(tmp_path, raw_dir, server):
    out = tmp_path / "out"
    assert server.wait(server.start(raw_dir, tmp_path / "warm")) == 0
    begun = time.monotonic()
    assert server.wait(server.start(raw_dir, tmp_path / "reference")) == 0
    whole = time.monotonic() - begun
    (folder,) = final_folders(tmp_path / "reference")
    reference = data.load(folder).fingerprint
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(50):
        pid = server.start(raw_dir, out)
        time.sleep(whole * float(rng.uniform(0.0, 1.0)))
        os.kill(pid, signal.SIGKILL)
        if server.wait(pid) == -signal.SIGKILL:
            killed += 1
        else:
            whole *= 0.7  # the machine has become faster: it had finished
        for folder in final_folders(out):
            assert data.load(folder).fingerprint == reference
            shutil.rmtree(folder)
        if killed == 10:
            break
    assert killed == 10
    assert server.wait(server.start(raw_dir, out)) == 0
    (folder,) = final_folders(out)
    assert data.load(folder).fingerprint == reference
    assert not [p for p in out.rglob("*") if "incomplete" in p.name]


def test_several_processes_at_once_make_one_data_set(tmp_path, raw_dir, server):
    out = tmp_path / "out"
    assert [server.wait(pid) for pid in [server.start(raw_dir, out) for _ in range(4)]] == [0] * 4
    (folder,) = final_folders(out)
    data.load(folder)
    assert [p.name for p in (out / "criteo_display").iterdir()] == [folder.parent.name]


# In turn: the spilled blocks, what stands beside them, the buckets, and the shards do not fit.
@pytest.mark.parametrize("limit", [3_000, 60_000, 300_000, 513_500])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, raw_dir, server, limit):
    # A limit on the size of a file fails in the same calls as a full disk does.
    out = tmp_path / "out"
    name = f"answer-{limit}"
    assert server.wait(server.start(raw_dir, out, name, limit)) == 2
    assert "error: the disk of data_dir" in server.answer(name)
    assert "nothing was left behind" in server.answer(name)
    assert not out.exists()


def test_a_data_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data_dir .* cannot be written"):
        data.prepare("synthetic", SMALL, tmp_path / "file")


def test_stale_remains_of_a_killed_process_are_removed(tmp_path, built):
    parent = tmp_path / "synthetic" / built.path.parent.name
    rest = parent / "incomplete.ABC123_2.0.0"
    rest.mkdir(parents=True)
    (rest / "x").write_text("rest")
    (tmp_path / "synthetic" / f".{parent.name}.lock").write_text("")
    found = data.prepare("synthetic", SMALL, tmp_path)
    assert found.fingerprint == built.fingerprint and not rest.exists()


def test_every_data_set_describes_itself():
    for name, builder in catalog.DATASETS.items():
        assert builder.name == name
        assert builder.DESCRIPTION and builder.CITATION
        assert int(builder.VERSION.split(".")[0]) == (3 if name == "kdd12" else 2)


@pytest.mark.parametrize(
    ("name", "instructions"),
    [
        ("criteo_display", "Put train.txt"),
        ("avazu", "Put train.csv"),
        ("kdd12", "Put training.txt"),
        ("movielens", "Unpack a MovieLens archive"),
    ],
)
def test_missing_raw_files_say_what_to_put_where(tmp_path, name, instructions):
    (tmp_path / "raw").mkdir()
    for folder, message in ((None, "raw_dir is not set"), (str(tmp_path / "raw"), "holds no")):
        with pytest.raises(InputError, match=message) as caught:
            data.prepare(name, data.DataOptions(raw_dir=folder), tmp_path / "out")
        assert instructions in str(caught.value)
    builder = catalog.DATASETS[name]
    assert builder.HOMEPAGE.startswith("https://") and builder.LICENSE
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name, option, others",
    [("table", "table_file", {"label": "y", "categorical": ["a"]}), ("kdd12", "raw_dir", {})],
)
def test_links_that_lead_in_a_circle_are_no_files(tmp_path, name, option, others):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    options = data.DataOptions(**{option: str(tmp_path / "loop")}, **others)
    with pytest.raises(InputError, match=r"loop (does not exist|is not a folder)"):
        data.prepare(name, options, tmp_path / "data")
