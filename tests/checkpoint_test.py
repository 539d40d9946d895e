import gc
import resource
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax import checkpoint, state_manifest
from optembed_jax.checkpoint import Checkpoints
from optembed_jax.errors import CheckpointError, InputError
from optembed_jax.forward import ModelConfig, init_params
from optembed_jax.state_manifest import MANIFEST


def state_of(fields, **config):
    model = ModelConfig(latent_dim=2, mlp_dims=(3,), **config)
    params, batch_stats = init_params(jax.random.key(0), model, fields)
    return {"params": params, "batch_stats": batch_stats, "rows": jnp.array([True, False])}


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    yield checkpoints
    checkpoints.close()


@pytest.fixture
def limit_file_size():
    """Lets no file grow beyond so many bytes: a disk that is full, as the writer sees it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


SMALL = {"x": jnp.arange(6.0)}


def small(value):
    return {"x": jnp.full(6, float(value))}


@pytest.mark.parametrize(
    "config",
    [{"model": "deepfm", "mode_oov": "oov"}, {"model": "fm", "mode": "none"}],
    ids=["all-parts", "parts-absent"],
)
def test_what_is_saved_is_restored_bit_for_bit(fields, tmp_path, config):
    state = state_of(fields, **config)
    checkpoint.save(tmp_path / "state", state)
    restored = checkpoint.restore(tmp_path / "state", jax.eval_shape(lambda: state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_a_random_key_goes_on_drawing_what_it_would_have_drawn(tmp_path):
    key = jax.random.split(jax.random.key(3))[1]
    checkpoint.save(tmp_path / "state", {"key": key})
    restored = checkpoint.restore(tmp_path / "state", jax.eval_shape(lambda: {"key": key}))["key"]
    assert restored.dtype == key.dtype
    assert jax.random.bits(restored) == jax.random.bits(key)


def test_a_relative_path_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.save("state", {"x": jnp.arange(3)})
    assert checkpoint.restore("state", {"x": jnp.zeros(3, jnp.int32)})["x"].tolist() == [0, 1, 2]


def test_saving_again_replaces(tmp_path):
    for value in (1, 2):
        checkpoint.save(tmp_path / "state", {"x": jnp.array(value)})
    assert int(checkpoint.restore(tmp_path / "state", {"x": jnp.array(0)})["x"]) == 2


@pytest.mark.parametrize(("saved_on", "restored_on"), [(4, 2), (1, 4), (4, 1)])
def test_a_state_is_restored_onto_another_number_of_devices(tmp_path, saved_on, restored_on):
    def by_row(count):
        mesh = jax.make_mesh((count,), ("rows",), devices=jax.devices()[:count])
        return jax.NamedSharding(mesh, jax.P("rows"))

    table = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    checkpoint.save(tmp_path / "state", {"table": jax.device_put(table, by_row(saved_on))})
    like = {"table": jax.ShapeDtypeStruct((8, 3), jnp.float32, sharding=by_row(restored_on))}
    restored = checkpoint.restore(tmp_path / "state", like)["table"]
    assert len(restored.sharding.device_set) == restored_on
    assert restored.addressable_shards[0].data.shape == (8 // restored_on, 3)
    np.testing.assert_array_equal(restored, table)


def test_a_state_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no saved state at .*nowhere"):
        checkpoint.restore(tmp_path / "nowhere", {"x": jnp.zeros(3)})


def test_a_state_of_another_shape_is_refused(tmp_path):
    checkpoint.save(tmp_path / "state", {"x": jnp.zeros(3)})
    for like, found in (
        ({"x": jnp.zeros(4)}, r"x is float32\[3\], and float32\[4\] is expected"),
        ({"x": jnp.zeros(3, jnp.int32)}, r"x is float32\[3\], and int32\[3\] is expected"),
        ({"y": {"z": jnp.zeros(3)}}, r"x is float32\[3\], and nothing is expected"),
        ({"x": jnp.zeros(3), "y": jax.random.key(0)}, r"y is nothing, and uint32\[2\] is expected"),
    ):
        with pytest.raises(InputError, match=f"cannot be used: {found}"):
            checkpoint.restore(tmp_path / "state", like)
    gc.collect()  # No read was begun and dropped, of which Python would warn here.


def test_a_state_without_its_contents_is_refused(tmp_path):
    (tmp_path / "state").mkdir()
    with pytest.raises(InputError, match=r"was never finished: it has no manifest\.json"):
        checkpoint.restore(tmp_path / "state", {"x": jnp.zeros(3)})


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 0x01
    file.write_bytes(bytes(content))


def test_no_byte_of_a_saved_state_can_change_unnoticed(tmp_path):
    checkpoint.save(tmp_path / "state", SMALL)
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert len(files) > 5
    for file in files:
        whole = file.read_bytes()
        if not whole:
            continue
        for at in {0, len(whole) // 2, len(whole) - 1}:
            flip(file, at)
            with pytest.raises(InputError, match=f"{file} is damaged"):
                checkpoint.restore(tmp_path / "state", SMALL)
            file.write_bytes(whole)
        file.write_bytes(whole[:-1])
        with pytest.raises(InputError, match=f"{file} (has|is damaged)"):
            checkpoint.restore(tmp_path / "state", SMALL)
        file.unlink()
        with pytest.raises(InputError, match=f"({file} is missing|never finished)"):
            checkpoint.restore(tmp_path / "state", SMALL)
        file.write_bytes(whole)
    checkpoint.restore(tmp_path / "state", SMALL)


def test_a_check_meets_no_other_process_even_when_the_writing_is_done(checkpoints, monkeypatch):
    # Theirs may not be done, and then they would not come.
    met = []
    monkeypatch.setattr(checkpoint, "_meet", met.append)
    checkpoints.save(1, SMALL, {})
    deadline = time.monotonic() + 60
    while checkpoints.last != 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)  # The thread sets it just before it is done.
    checkpoints.check()
    assert not met
    checkpoints.wait()
    assert len(met) == 1


def test_the_latest_two_are_kept_and_what_they_need(checkpoints):
    kept = []
    needs = {1: [], 2: [], 3: [1], 4: [3], 5: [3], 6: [3]}
    for step, need in needs.items():
        checkpoints.save(step, small(step), {"batch": step}, need)
        checkpoints.wait()
        assert checkpoints.last == step
        kept.append(sorted(int(path.name) for path in checkpoints.path(step).parent.iterdir()))
    assert kept == [[1], [1, 2], [1, 2, 3], [1, 3, 4], [3, 4, 5], [3, 5, 6]]
    assert checkpoints.restore(3, SMALL)["x"].tolist() == [3] * 6


def test_the_latest_is_found_with_its_position_by_another_process(checkpoints, tmp_path):
    assert checkpoints.latest(SMALL) is None
    for step in (9, 10):
        checkpoints.save(step, small(step), {"batch": step, "loss": 0.1 + 0.2})
    checkpoints.wait()
    other = Checkpoints(tmp_path / "checkpoints")
    found = other.latest(SMALL)
    assert (found.step, found.position) == (10, {"batch": 10, "loss": 0.1 + 0.2})
    assert found.state["x"].tolist() == [10] * 6
    assert other.last == 10
    other.close()


def test_a_state_may_be_donated_while_it_is_written(checkpoints):
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    state = step({"x": jnp.zeros((200_000, 8))})
    checkpoints.save(1, state, {})
    for _ in range(3):
        state = step(state)
    checkpoints.save(2, state, {})
    state = step(state)
    checkpoints.wait()
    like = jax.eval_shape(lambda: state)
    for number, value in ((1, 1), (2, 4)):
        assert (np.asarray(checkpoints.restore(number, like)["x"]) == value).all()


def biggest_file(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return max(files, key=lambda path: path.stat().st_size)


DAMAGES = {
    "flipped": lambda file: flip(file, file.stat().st_size // 2),
    "missing": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_latest_is_named_and_the_one_before_used(checkpoints, tmp_path, damage):
    for step in (1, 2):
        checkpoints.save(step, small(step), {"batch": step})
    checkpoints.wait()
    file = biggest_file(tmp_path / "checkpoints" / "2")
    DAMAGES[damage](file)
    told = []
    other = Checkpoints(tmp_path / "checkpoints")
    found = other.latest(SMALL, told.append)
    assert found.step == 1 and found.state["x"].tolist() == [1] * 6
    assert len(told) == 1
    assert f"checkpoint 2 cannot be used: {file}" in told[0]
    assert told[0].endswith("going on from checkpoint 1")
    # What was damaged is written again when the run gets there again.
    other.save(2, small(2), {"batch": 2})
    other.wait()
    assert other.latest(SMALL).step == 2
    other.close()


def test_a_checkpoint_is_no_better_than_what_it_needs(checkpoints, tmp_path):
    for step, needs in ((1, []), (2, [1]), (3, [2])):
        checkpoints.save(step, small(step), {}, needs)
    checkpoints.wait()
    flip(biggest_file(tmp_path / "checkpoints" / "2"), 9)
    told = []
    assert checkpoints.latest(SMALL, told.append).step == 1
    assert [message.split(" cannot")[0] for message in told] == ["checkpoint 3", "checkpoint 2"]


def test_when_none_is_good_all_are_named(checkpoints, tmp_path):
    for step in (1, 2):
        checkpoints.save(step, small(step), {})
    checkpoints.wait()
    files = [biggest_file(tmp_path / "checkpoints" / step) for step in "12"]
    for file in files:
        DAMAGES["truncated"](file)
    with pytest.raises(InputError, match=r"no checkpoint in .* is good") as error:
        checkpoints.latest(SMALL)
    assert all(str(file) in str(error.value) for file in files)
    assert f"Remove {tmp_path} to start from the beginning" in str(error.value)


def test_a_checkpoint_that_was_never_finished_is_passed_over(checkpoints, tmp_path):
    checkpoints.save(1, small(1), {})
    checkpoints.wait()
    checkpoint.save(tmp_path / "checkpoints" / "2", small(2))
    (tmp_path / "checkpoints" / "2" / MANIFEST).unlink()
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir()
    told = []
    assert checkpoints.latest(SMALL, told.append).step == 1
    (message,) = told
    assert "2 was never finished; going on from checkpoint 1" in message
    checkpoints.save(4, small(4), {})
    checkpoints.wait()
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {"1", "4"}
    state_manifest.remove(tmp_path / "checkpoints" / "1")
    (tmp_path / "checkpoints" / "4" / MANIFEST).unlink()
    assert checkpoints.latest(SMALL, told.append) is None
    assert told[-1].endswith("4 was never finished; starting from the beginning")


def test_a_full_disk_is_told_and_the_last_good_one_kept(checkpoints, tmp_path, limit_file_size):
    noise = {"x": jax.random.normal(jax.random.key(0), (50_000,))}
    checkpoints.save(1, noise, {})
    checkpoints.wait()
    limit_file_size(60_000)
    checkpoints.save(2, noise, {})
    with pytest.raises(CheckpointError, match=r"File too large.*the last good one is .*/1$"):
        while True:
            checkpoints.check()
    assert Checkpoints(tmp_path / "checkpoints").latest(noise).step == 1
    with pytest.raises(CheckpointError, match=r"state cannot be written.*File too large"):
        checkpoint.save(tmp_path / "state", noise)
    with pytest.raises(InputError, match="no saved state"):
        checkpoint.restore(tmp_path / "state", noise)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
