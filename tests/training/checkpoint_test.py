import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from damage import flip

from optembed_jax.errors import CheckpointError, InputError
from optembed_jax.storage import barrier, saved_state, state_manifest
from optembed_jax.storage.state_manifest import MANIFEST
from optembed_jax.training.checkpoint import Checkpoints


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    yield checkpoints
    checkpoints.close()


SMALL = {"x": jnp.arange(6.0)}


def small(value):
    return {"x": jnp.full(6, float(value))}


def test_a_check_meets_no_other_process_even_when_the_writing_is_done(checkpoints, monkeypatch):
    # Theirs may not be done, and then they would not come.
    met = []
    monkeypatch.setattr(barrier, "wait", met.append)
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
    assert f"; remove {tmp_path} to start from the beginning" in str(error.value)


def test_a_checkpoint_that_was_never_finished_is_passed_over(checkpoints, tmp_path):
    checkpoints.save(1, small(1), {})
    checkpoints.wait()
    saved_state.save(tmp_path / "checkpoints" / "2", small(2))
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
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
