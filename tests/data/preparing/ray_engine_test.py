"""Preparation on Ray: what the local engine gives, bit for bit; killed workers; bad rows."""

import dataclasses
import gzip
import json
import os
import pathlib
import signal
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from optembed_jax import data
from optembed_jax.data.formats.table import Table
from optembed_jax.data.preparing import pipeline
from optembed_jax.data.raw import lines, text
from optembed_jax.errors import InputError

ray = pytest.importorskip("ray", reason="needs the extra ray")
from optembed_jax.data.preparing import ray_cluster, ray_engine  # noqa: E402 (they import ray)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Three workers, which all tests of this file share."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=3,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield
        ray.shutdown()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several blocks, and several buckets, of few rows."""
    for source in (text.TextSource, lines.LineSource):
        original = source.__init__

        def init(self, *args, original=original, **given):
            original(self, *args, **(given | {"block_bytes": 4_000}))

        monkeypatch.setattr(source, "__init__", init)
    monkeypatch.setattr(pipeline, "BUCKET_BYTES", 1_500)


@pytest.fixture
def table():
    """All that a table may have."""
    rng = np.random.default_rng(0)
    n = 600
    users = [None if v == 3 else f"u{v}" for v in rng.zipf(1.5, n) % 97]
    tags = [
        "|".join(f"t{v}:{v % 3 + 0.1}" for v in rng.integers(0, 20, rng.integers(0, 4)))
        for _ in range(n)
    ]
    return {
        "y": rng.integers(0, 2, n).tolist(),
        "user": users,
        "price": rng.normal(size=n).round(3).tolist(),
        "tags": tags,
        "weight": rng.random(n).round(3).tolist(),
        "when": rng.integers(0, 90, n).tolist(),
    }


ALL = {
    "label": "y",
    "categorical": ("user",),
    "numeric": ("price",),
    "multi": ("tags",),
    "separator": "|",
    "value_weights": ("tags",),
    "weight": "weight",
    "group": "user",
    "time_column": "when",
}


def as_csv(folder, table):
    csv.write_csv(pa.table(table), folder / "t.csv")
    return {"table_file": folder / "t.csv", **ALL}


def as_parts(folder, table):
    (folder / "parts").mkdir()
    halves = pa.table(table).slice(0, 300), pa.table(table).slice(300)
    pq.write_table(halves[0], folder / "parts/a.parquet")
    with gzip.open(folder / "parts/b.csv.gz", "wb") as stream:
        csv.write_csv(halves[1], stream)
    return {"table_file": folder / "parts", **ALL, "split": "time", "draw_negatives": 0.5}


def as_json(folder, table):
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"table_file": folder / "t.jsonl", **ALL, "vocab_from": "all", "draw_negatives": 0.7}


def as_libffm(folder, table):
    rows = [
        f"{y} 0:{user or 'none'}:1 1:{when}:1\n"
        for y, user, when in zip(table["y"], table["user"], table["when"], strict=True)
    ]
    (folder / "t.ffm").write_text("".join(rows))
    return {"table_file": folder / "t.ffm", "label": "label", "categorical": ("0", "1")}


def as_three_files(folder, table):
    names = ("train_file", "validation_file", "test_file")
    for number, name in enumerate(names):
        csv.write_csv(pa.table(table).slice(200 * number, 200), folder / f"{name}.csv")
    return {name: folder / f"{name}.csv" for name in names} | {
        "label": "y",
        "categorical": ("user", "when"),
    }


def as_criteo(folder, criteo_rows):
    rows = ["\t".join("" if c is None else str(c) for c in row) for row in criteo_rows(300)]
    (folder / "train.txt").write_text("\n".join(rows) + "\n")
    return {"raw_dir": folder}


def as_kdd(folder, _):
    rng = np.random.default_rng(0)
    shown = rng.zipf(1.6, (600, 11)) % 1000 + 1
    rows = [[min(row[0], rng.integers(0, 3)), *row] for row in shown.tolist()]
    (folder / "training.txt").write_text("".join("\t".join(map(str, r)) + "\n" for r in rows))
    return {"raw_dir": folder}


def as_avazu(folder, _):
    rng = np.random.default_rng(0)
    plain = ["C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain"]
    plain += ["app_category", "device_id", "device_ip", "device_model", "device_type"]
    plain += ["device_conn_type", *(f"C{i}" for i in range(14, 22))]
    rows = [["id", "click", "hour", *plain]]
    rows += [
        [i, rng.integers(0, 2), 14102100 + i // 30, *rng.zipf(1.5, len(plain)) % 50]
        for i in range(600)
    ]
    (folder / "train.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return {"raw_dir": folder, "split": "time"}


def as_movielens(folder, _):
    rng = np.random.default_rng(0)
    rows = ["userId,movieId,rating,timestamp\n"]
    rows += [
        f"{rng.integers(1, 20)},{rng.integers(1, 4)},{rng.integers(1, 6)},{second}\n"
        for second in rng.integers(9e8, 1e9, 500)
    ]
    (folder / "ratings.csv").write_text("".join(rows))
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n1,A (1995),Drama|War\n2,B,War\n3,C (1968),(no genres listed)\n"
    )
    return {"raw_dir": folder, "split": "time"}


FORMATS = {
    "csv": ("table", as_csv),
    "parts": ("table", as_parts),
    "json": ("table", as_json),
    "libffm": ("table", as_libffm),
    "three files": ("table", as_three_files),
    "criteo": ("criteo_display", as_criteo),
    "kdd12": ("kdd12", as_kdd),
    "avazu": ("avazu", as_avazu),
    "movielens": ("movielens", as_movielens),
    "synthetic": ("synthetic", lambda folder, _: {"synthetic_rows": 500, "min_count": 3}),
}


def options_of(name, folder, table, criteo_rows):
    dataset, write = FORMATS[name]
    given = write(folder, criteo_rows if name == "criteo" else table)
    as_text = {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in given.items()}
    return dataset, data.DataOptions(**as_text)


def on_ray(workers):
    return data.EngineOptions(engine="ray", workers=workers)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_what_the_local_engine_gives(tmp_path, table, criteo_rows, name):
    dataset, options = options_of(name, tmp_path, table, criteo_rows)
    local = data.prepare(dataset, options, tmp_path / "local")
    assert sum(len(found) for found in local.shards.values()) > 3
    for workers in (1, 3):
        folder = tmp_path / f"ray{workers}"
        found = data.prepare(dataset, options, folder, engine=on_ray(workers))
        assert found.fingerprint == local.fingerprint  # of the shards' checksums too
        assert {p.name for p in found.path.iterdir()} == {p.name for p in local.path.iterdir()}
        data.load(found.path)


def test_flights_of_the_package_into_a_folder_beside_this_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    local, found = (
        data.prepare("flights", data.DataOptions(), str(engine.workers), engine=engine)
        for engine in (data.EngineOptions(), on_ray(2))
    )
    assert found.fingerprint == local.fingerprint


@dataclasses.dataclass(frozen=True)
class Deadly:
    """A source whose readers are killed, until a file is there; never where none is named."""

    source: object
    until: str | None

    @property
    def files(self):
        return self.source.files

    @property
    def size(self):
        return self.source.size

    def blocks(self):
        return self.source.blocks()

    def read(self, block):
        if block.row > 0 and (self.until is None or not os.path.exists(self.until)):
            if self.until is not None:
                open(self.until, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.source.read(block)


@pytest.fixture
def deadly(monkeypatch):
    """Makes tables deadly to read; the class is sent to workers, who do not know this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    original = Table.raw_data

    def make(until):
        def raw_data(options):
            made = original(options)
            return dataclasses.replace(made, source=Deadly(made.source, until))

        monkeypatch.setattr(Table, "raw_data", raw_data)

    yield make
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def busy_workers():
    """Processes of the cluster that do a task, which Ray writes into their names."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = path.read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        if name.startswith("ray::_"):
            yield int(path.parent.name)


def test_what_a_killed_worker_did_is_done_again(tmp_path, table, deadly):
    options = data.DataOptions(**{**as_csv(tmp_path, table), "table_file": str(tmp_path / "t.csv")})
    local = data.prepare("table", options, tmp_path / "local")
    deadly(str(tmp_path / "killed"))
    killed = []

    def kill(now):
        """And of each later stage one of those that work at it, in its middle."""
        if now.stage != "reading" and now.done == 1:
            for worker in list(busy_workers())[:1]:
                os.kill(worker, signal.SIGKILL)
                killed.append(now.stage)

    found = data.prepare("table", options, tmp_path / "ray", kill, engine=on_ray(2))
    assert (tmp_path / "killed").exists()
    assert found.fingerprint == local.fingerprint
    assert not [path for path in found.path.iterdir() if path.name.startswith("spill")]


def test_a_block_that_kills_every_worker_ends_it_and_nothing_is_left(
    tmp_path, table, deadly, monkeypatch
):
    monkeypatch.setattr(ray_engine, "_ATTEMPTS", 1)
    options = data.DataOptions(**{**as_csv(tmp_path, table), "table_file": str(tmp_path / "t.csv")})
    deadly(None)
    with pytest.raises(InputError, match=r"lost processes .* run it again"):
        data.prepare("table", options, tmp_path / "out", engine=on_ray(2))
    assert not (tmp_path / "out").exists()


def test_a_bad_row_is_told_as_the_local_engine_tells_it(tmp_path, table):
    table["y"][431] = 7
    options = data.DataOptions(**{**as_csv(tmp_path, table), "table_file": str(tmp_path / "t.csv")})
    told = []
    for engine in (data.EngineOptions(), on_ray(3)):
        with pytest.raises(InputError) as raised:
            data.prepare("table", options, tmp_path / "out", engine=engine)
        told.append(str(raised.value))
        assert not (tmp_path / "out").exists()
    assert told[0] == told[1] and "line 433: column 'y' is '7'" in told[0]


def test_an_address_beside_a_cluster_that_this_process_has(tmp_path):
    engine = data.EngineOptions(engine="ray", engine_address="auto")
    with pytest.raises(InputError, match="connected to a Ray cluster already"):
        data.prepare("synthetic", data.DataOptions(), tmp_path / "out", engine=engine)
    assert not (tmp_path / "out").exists()


def test_machines_have_to_have_the_same_versions(tmp_path, monkeypatch):
    found = ray_cluster._versions()
    monkeypatch.setattr(ray_cluster, "_versions", lambda: found | {"pyarrow": "1.2.3"})
    message = rf"machine .* of the cluster has pyarrow {pa.__version__}, and this one 1.2.3"
    with pytest.raises(InputError, match=message):
        data.prepare("synthetic", data.DataOptions(), tmp_path / "out", engine=on_ray(1))
    assert not (tmp_path / "out").exists()


def test_machines_have_to_see_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "touch", lambda self: None)
    with pytest.raises(InputError, match=r"does not see .* file system that all machines have"):
        data.prepare("synthetic", data.DataOptions(), tmp_path / "out", engine=on_ray(1))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", [True, False])
def test_what_a_lost_machine_held_is_not_waited_for_for_ever(tmp_path, monkeypatch, lost):
    """Nothing ends for two minutes, and then the task does; with all machines there one waits."""
    looks = iter([([], [0])] * 24 + [([0], [])])
    monkeypatch.setattr(ray, "wait", lambda tasks, num_returns, timeout: next(looks))
    nodes = [{"NodeID": node, "Alive": not lost or node == "a"} for node in ("a", "b")]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    cluster = ray_cluster.Cluster(1, tmp_path, {"a": "here", "b": "there"})
    if not lost:
        assert cluster.wait([0]) == {0}
        return
    with pytest.raises(InputError, match="lost machine there"):
        cluster.wait([0])
