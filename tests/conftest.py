"""What every test runs on: four CPU devices, and small data made in memory."""

import dataclasses
import gc
import importlib.metadata
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile

# Before JAX is imported: the number of devices is fixed by then. XLA ends the process on a flag
# that it does not know, so some go by the version.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    (
        "--xla_force_host_platform_device_count=4",
        # Thousands of programs are compiled and each runs for milliseconds, so what compiles
        # five times as fast is the faster suite. What the caller asks for comes last and wins.
        "--xla_backend_optimization_level=0",
        # Thirty parts of a program in threads of their own are a fifth more work than one.
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_cpu_use_fusion_emitters=false"
        if (_jaxlib := tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:3])))
        < (0, 11, 1)
        else "",
        # Four devices on a busy machine: XLA's own 40 s are no proof that one hangs. Earlier than
        # the version that the tests are pinned to, some know no such flag.
        "--xla_cpu_collective_call_terminate_timeout_seconds=300" if _jaxlib >= (0, 10, 2) else "",
        os.environ.get("XLA_FLAGS", ""),
    )
).strip()

# One folder of compiled programs for all test processes and the commands that tests start: most
# programs are wanted by several of them, and compiling is what the suite spends its time on.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="optembed_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis
import jax
import numpy as np
import pytest

from optembed_jax.fields import Fields

# A machine that does other things too is no fault of the code.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_collection_finish():
    """The collector of garbage need not look through it all again and again.

    What is imported stays. Tracing makes objects by the hundred thousand, few of them in circles:
    as often as Python would collect, it took a twentieth of the suite.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@dataclasses.dataclass(frozen=True)
class MemoryBatch:
    ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True)
class MemoryBatches:
    """A split in memory: shuffled full batches with a seed, else in order and the last padded."""

    ids: np.ndarray
    labels: np.ndarray
    batch_size: int
    seed: int | None = None
    weights: np.ndarray | None = None

    @property
    def is_weighted(self):
        return self.weights is not None

    @property
    def num_batches(self):
        if self.seed is None:
            return -(-len(self.ids) // self.batch_size)
        return len(self.ids) // self.batch_size

    def epoch(self, epoch, start=0):
        order = np.arange(len(self.ids))
        if self.seed is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        for number in range(start, self.num_batches):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            padding = self.batch_size - len(rows)
            yield MemoryBatch(
                ids=np.pad(self.ids[rows], ((0, padding), (0, 0)), mode="edge"),
                labels=np.pad(self.labels[rows], (0, padding)).astype(np.float32),
                weights=np.pad(
                    np.ones(len(rows), np.float32) if self.weights is None else self.weights[rows],
                    (0, padding),
                ).astype(np.float32),
            )


@pytest.fixture(scope="module")
def strict_dtypes():
    """Makes an implicit mixture of dtypes an error, so that none hides in the library.

    Asked for by the modules that can: Optax itself mixes dtypes, and with it whatever trains.
    """
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="module", autouse=True)
def few_programs_at_once():
    """Lets go of compiled programs before there are too many of them.

    Each takes one mapping of memory to seven, of which Linux allows a process 65,530; jaxlib 0.10.2
    ends the process where it gets no more. What is wanted again is traced anew, and comes from the
    folder of programs: seconds, so not before a module of thousands could go too far.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def as_users_compile():
    """Compiles what is lowered as users' machines do, not for speed of compiling.

    What a program copies, and holds at once, depends on it.
    """
    options = {"xla_backend_optimization_level": 3}
    if "--xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]:
        options["xla_cpu_use_fusion_emitters"] = True
    return lambda lowered: lowered.compile(options)


@pytest.fixture(scope="session")
def batches_of():
    """Makes a reader of rows in memory: ``batches_of(ids, labels, batch_size, seed)``."""
    return MemoryBatches


@pytest.fixture
def fields():
    """Three fields of 5, 4 and 3 rows: V = 12."""
    return Fields(("user", "item", "hour"), (5, 4, 3))


@pytest.fixture
def draw_ids():
    """Draws ids int32 ``[n, F]``, uniform in each field: ``draw_ids(fields, n, seed)``."""

    def draw(fields, n, seed=0):
        rng = np.random.default_rng(seed)
        columns = [rng.integers(0, size, n) for size in fields.sizes]
        return (np.stack(columns, axis=1) + fields.offsets).astype(np.int32)

    return draw


def draw_cells(fields, n, seed=0):
    """Ids int32 ``[n, S]``: cells of no value, of one, of several, some of them twice.

    Where values have weights ``[n, S + W]``: of 0 to 2, some 0.
    """
    rng = np.random.default_rng(seed)
    columns = []
    for size, offset, slots in zip(fields.sizes, fields.offsets, fields.slots, strict=True):
        ids = (rng.integers(0, size, (n, slots)) + offset).astype(np.int32)
        if slots > 1:
            ids[np.arange(slots) >= rng.integers(0, slots + 1, (n, 1))] = fields.num_features
        columns.append(ids)
    if any(fields.weighted):
        weights = rng.random((n, len(fields.weighted_slots))).astype(np.float32) * 2
        columns.append(np.where(weights < 0.2, np.float32(0), weights).view(np.int32))
    return np.concatenate(columns, axis=1)


@pytest.fixture
def draw_bags():
    """Draws ids of fields with several slots: ``draw_bags(fields, n, seed)``."""
    return draw_cells


@pytest.fixture
def draw_clicks(draw_ids):
    """Draws ``(ids, labels)`` where each row has an effect of its own on the click rate."""

    def draw(fields, n, seed=0):
        ids = draw_ids(fields, n, seed)
        effects = np.random.default_rng(99).normal(0, 1.5, fields.num_features)
        rate = 1 / (1 + np.exp(-effects[ids].sum(axis=1)))
        labels = np.random.default_rng((seed, 1)).random(n) < rate
        return ids, labels.astype(np.float32)

    return draw


@pytest.fixture
def randomise():
    """Replaces every array of a tree by random numbers, variances by positive ones.

    Fresh parameters are full of zeros and ones, with which a wrong formula can look right.
    """

    def replace(tree, seed=0, scale=0.5):
        rng = np.random.default_rng(seed)

        def leaf(path, array):
            drawn = rng.normal(0, scale, np.shape(array)).astype(np.float32)
            is_variance = "var" in jax.tree_util.keystr(path)
            return jax.device_put(np.abs(drawn) + 0.5 if is_variance else drawn)

        return jax.tree_util.tree_map_with_path(leaf, tree)

    return replace


@pytest.fixture
def limit_file_size():
    """Lets no file grow beyond so many bytes: a disk that is full, as the writer sees it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(scope="session")
def movielens_dir():
    """The folder of MovieLens latest-small, which has a licence of its own and is not shipped."""
    beside = pathlib.Path(__file__).parents[2] / "shared" / "data" / "movielens_latest_small"
    folder = pathlib.Path(os.environ.get("OPTEMBED_MOVIELENS", beside))
    if not (folder / "ratings.csv").is_file():
        pytest.skip(
            f"no ratings.csv in {folder}; unpack MovieLens latest-small and set OPTEMBED_MOVIELENS"
        )
    return folder


@pytest.fixture(scope="module")
def bucket():
    """The name of a folder in a bucket, ``gs://``..., that a server of the tests' own keeps.

    What the clients are told is in the environment, so that commands find the server as well.
    """
    pytest.importorskip("gcsfs", reason="gs:// paths need the extra gcp")
    program = [sys.executable, str(pathlib.Path(__file__).with_name("gcs_server.py"))]
    server = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{int(server.stdout.readline())}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", address)  # gcsfs and google-cloud-storage
        patch.setenv("FSSPEC_GCS_TOKEN", "anon")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks Google itself
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "token")
        yield "gs://bucket/tests"
    server.communicate()
