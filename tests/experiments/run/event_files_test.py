import importlib.util
import json
import struct

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver
from etils.epath import Path

from experiments.run import event_files, runs
from experiments.run.event_files import POINTS, check_installed, written
from experiments.run.phases import run_phase
from optembed_jax.errors import InputError
from optembed_jax.training.resume import Epoch

needs_writer = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="tensorboardX is not installed"
)
EPOCHS = [Epoch(n, 0.7 / n, 0.5 + n / 10, 0.6, 1.0, 1e4 * n, n == 2) for n in (1, 2, 3)]


def points_in(folder):
    """``{(name, step): [values]}`` of all event files, by the format of their records."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in sorted(folder.glob("*tfevents*")):
        content, start = file.read_bytes(), 0
        while start < len(content):
            (size,) = struct.unpack_from("<Q", content, start)
            event = Event.FromString(content[start + 12 : start + 12 + size])
            start += 12 + size + 4
            for value in event.summary.value:
                found.setdefault((value.tag, event.step), []).append(value.simple_value)
    return found


def expected(epochs):
    """As float32, as event files have it."""
    single = struct.Struct("<f")
    return {
        (name, epoch.number): [single.unpack(single.pack(getattr(epoch, name)))[0]]
        for epoch in epochs
        for name in POINTS
    }


@needs_writer
def test_each_epoch_is_there_as_soon_as_it_ended(tmp_path):
    with written(True, Path(tmp_path), ()) as add:
        for number, epoch in enumerate(EPOCHS, start=1):
            add(epoch)
            assert points_in(tmp_path / "tensorboard") == expected(EPOCHS[:number])


@needs_writer
def test_what_is_resumed_has_no_point_twice(tmp_path):
    with pytest.raises(KeyboardInterrupt), written(True, Path(tmp_path), ()) as add:
        for epoch in EPOCHS:
            add(epoch)
        raise KeyboardInterrupt
    # The third epoch was not saved, and comes out anew.
    with written(True, Path(tmp_path), EPOCHS[:2]) as add:
        assert points_in(tmp_path / "tensorboard") == expected(EPOCHS[:2])
        add(EPOCHS[2])
    assert points_in(tmp_path / "tensorboard") == expected(EPOCHS)
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert "tfevents" in file.name


@needs_writer
def test_a_run_writes_what_its_metrics_say(tmp_path):
    given = {
        **{"dataset": "synthetic", "synthetic_rows": 600, "synthetic_field_size": 9},
        **{"synthetic_signal_fields": 1, "synthetic_noise_fields": 1, "model": "fm"},
        **{"latent_dim": 2, "batch_size": 128, "epochs": 2, "mode": "none"},
        **{"data_dir": tmp_path / "data", "workdir": tmp_path / "run"},
    }
    with flagsaver.flagsaver():
        absl_flags.FLAGS.unparse_flags()
        flags = [f"--{name}={value}" for name, value in given.items()]
        absl_flags.FLAGS(["test", *flags, "--tensorboard"])
        run_phase(runs.open_run(), "baseline")
    folder = tmp_path / "run" / "baseline"
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    epochs = [Epoch(**json.loads(line)) for line in lines]
    assert len(epochs) == 2 and points_in(folder / "tensorboard") == expected(epochs)


def test_where_it_is_not_asked_for_nothing_is_written(tmp_path):
    with written(False, Path(tmp_path), EPOCHS) as add:
        add(EPOCHS[0])
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_said_before_anything_runs(monkeypatch):
    monkeypatch.setattr(event_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'optembed-jax\[tensorboard\]'"):
        check_installed()


def test_a_bucket_is_refused():
    with (
        pytest.raises(InputError, match="tensorboard needs a --workdir in a file system"),
        written(True, Path("gs://bucket/run"), ()),
    ):
        pytest.fail("it began")
