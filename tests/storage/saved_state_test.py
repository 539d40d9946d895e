import contextvars
import gc
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from damage import flip

from optembed_jax.errors import CheckpointError, InputError
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.storage import saved_state
from optembed_jax.storage.state_manifest import MANIFEST

SMALL = {"x": jnp.arange(6.0)}


def state_of(fields, **config):
    model = ModelConfig(latent_dim=2, mlp_dims=(3,), **config)
    params, batch_stats = init_params(jax.random.key(0), model, fields)
    return {"params": params, "batch_stats": batch_stats, "rows": jnp.array([True, False])}


@pytest.mark.parametrize(
    "config",
    [{"model": "deepfm", "mode_oov": "oov"}, {"model": "fm", "mode": "none"}],
    ids=["all-parts", "parts-absent"],
)
def test_what_is_saved_is_restored_bit_for_bit(fields, tmp_path, config):
    state = state_of(fields, **config)
    saved_state.save(tmp_path / "state", state)
    restored = saved_state.restore(tmp_path / "state", jax.eval_shape(lambda: state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_a_random_key_goes_on_drawing_what_it_would_have_drawn(tmp_path):
    key = jax.random.split(jax.random.key(3))[1]
    saved_state.save(tmp_path / "state", {"key": key})
    restored = saved_state.restore(tmp_path / "state", jax.eval_shape(lambda: {"key": key}))["key"]
    assert restored.dtype == key.dtype
    assert jax.random.bits(restored) == jax.random.bits(key)


def test_a_relative_path_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_state.save("state", {"x": jnp.arange(3)})
    assert saved_state.restore("state", {"x": jnp.zeros(3, jnp.int32)})["x"].tolist() == [0, 1, 2]


def test_saving_again_replaces(tmp_path):
    for value in (1, 2):
        saved_state.save(tmp_path / "state", {"x": jnp.array(value)})
    assert int(saved_state.restore(tmp_path / "state", {"x": jnp.array(0)})["x"]) == 2


@pytest.mark.parametrize(("saved_on", "restored_on"), [(4, 2), (1, 4), (4, 1)])
def test_a_state_is_restored_onto_another_number_of_devices(tmp_path, saved_on, restored_on):
    def by_row(count):
        mesh = jax.make_mesh((count,), ("rows",), devices=jax.devices()[:count])
        return jax.NamedSharding(mesh, jax.P("rows"))

    table = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    saved_state.save(tmp_path / "state", {"table": jax.device_put(table, by_row(saved_on))})
    like = {"table": jax.ShapeDtypeStruct((8, 3), jnp.float32, sharding=by_row(restored_on))}
    restored = saved_state.restore(tmp_path / "state", like)["table"]
    assert len(restored.sharding.device_set) == restored_on
    assert restored.addressable_shards[0].data.shape == (8 // restored_on, 3)
    np.testing.assert_array_equal(restored, table)


def test_a_state_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no saved state at .*nowhere; save it again"):
        saved_state.restore(tmp_path / "nowhere", {"x": jnp.zeros(3)})


def test_a_state_of_another_shape_is_refused(tmp_path):
    saved_state.save(tmp_path / "state", {"x": jnp.zeros(3)})
    for like, found in (
        ({"x": jnp.zeros(4)}, r"x is float32\[3\], and float32\[4\] is expected"),
        ({"x": jnp.zeros(3, jnp.int32)}, r"x is float32\[3\], and int32\[3\] is expected"),
        ({"y": {"z": jnp.zeros(3)}}, r"x is float32\[3\], and nothing is expected"),
        # Which Orbax takes for anything.
        ({"x": None}, r"x is float32\[3\], and nothing is expected"),
        ({"x": {}}, r"x is float32\[3\], and nothing is expected"),
        (
            {"x": jnp.zeros(3), "y": [None, jnp.ones(1)]},
            r"y\.1 is nothing, and float32\[1\] is exp",
        ),
        ({"x": jnp.zeros(3), "y": jax.random.key(0)}, r"y is nothing, and uint32\[2\] is expected"),
    ):
        with pytest.raises(InputError, match=f"cannot be used: {found}"):
            saved_state.restore(tmp_path / "state", like)
    saved_state.save(tmp_path / "absent", {"x": None, "y": jnp.zeros(3)})
    with pytest.raises(InputError, match=r"x is nothing, and float32\[3\] is expected"):
        saved_state.restore(tmp_path / "absent", {"x": jnp.zeros(3), "y": jnp.zeros(3)})
    gc.collect()  # No read was begun and dropped, of which Python would warn here.


def test_a_state_without_its_contents_is_refused(tmp_path):
    (tmp_path / "state").mkdir()
    with pytest.raises(InputError, match=r"was never finished: it has no manifest\.json"):
        saved_state.restore(tmp_path / "state", {"x": jnp.zeros(3)})


def test_no_byte_of_a_saved_state_can_change_unnoticed(tmp_path):
    saved_state.save(tmp_path / "state", SMALL)
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert len(files) > 5
    for file in files:
        whole = file.read_bytes()
        if not whole:
            continue
        for at in {0, len(whole) // 2, len(whole) - 1}:
            flip(file, at)
            with pytest.raises(InputError, match=f"{file} is damaged"):
                saved_state.restore(tmp_path / "state", SMALL)
            file.write_bytes(whole)
        file.write_bytes(whole[:-1])
        with pytest.raises(InputError, match=f"{file} (has|is damaged)"):
            saved_state.restore(tmp_path / "state", SMALL)
        file.unlink()
        with pytest.raises(InputError, match=f"({file} is missing|never finished)"):
            saved_state.restore(tmp_path / "state", SMALL)
        file.write_bytes(whole)
    saved_state.restore(tmp_path / "state", SMALL)


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path, limit_file_size):
    noise = {"x": jax.random.normal(jax.random.key(0), (50_000,))}
    limit_file_size(60_000)
    with pytest.raises(CheckpointError, match=r"state cannot be written.*File too large"):
        saved_state.save(tmp_path / "state", noise)
    with pytest.raises(InputError, match="no saved state"):
        saved_state.restore(tmp_path / "state", noise)
    assert list(tmp_path.iterdir()) == []


class Interrupted(BaseException):
    """What the handler of a signal raises."""


@pytest.fixture
def interrupt_after():
    """Has a handler raise ``Interrupted`` after so many seconds."""

    def raises(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, raises)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_what_a_handler_raises_comes_out_when_the_call_has_ended(interrupt_after):
    events = []

    def call(name, *, at):
        events.append(f"{name} begins at {at}")
        interrupt_after(0.05)
        time.sleep(0.3)
        events.append(f"{name} ends")

    with pytest.raises(Interrupted):
        saved_state.uninterrupted(call, "writing", at="once")
    assert events == ["writing begins at once", "writing ends"]


def test_an_uninterrupted_call_gives_what_it_gives_and_sees_what_its_caller_sees():
    seen = contextvars.ContextVar("seen", default="nothing")
    seen.set("of the caller")
    assert saved_state.uninterrupted(lambda: seen.get()) == "of the caller"
    with pytest.raises(ZeroDivisionError):
        saved_state.uninterrupted(divmod, 1, 0)


# A file of the manifest that was just opened, and is closed when it is collected.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
# What a handler raises while Python runs a weak reference's callback is told, and lost; such a
# moment is not counted below.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*WeakSet:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("action", ["save", "restore"])
def test_interrupted_at_any_moment_it_leaves_no_thread_that_waits(
    tmp_path, interrupt_after, capsys, action
):
    # Orbax's threads would wait for each other, and the process at its end for them.
    def act(moment=0):
        if action == "save":
            saved_state.save(tmp_path / str(moment), state)
        else:
            saved_state.restore(tmp_path / "before", state)

    state = {name: jnp.full(30, float(at)) for at, name in enumerate("abcd")}
    saved_state.save(tmp_path / "before", state)
    act()
    started = time.perf_counter()
    act()
    seconds = time.perf_counter() - started
    before = set(threading.enumerate())
    interrupted, moment = 0, 0
    while interrupted < 20:
        moment += 1
        assert moment < 200, "what the handler raises is lost"
        try:
            interrupt_after(seconds * (moment % 25 + 1) / 25)
            act(moment)
            interrupt_after(0)
            seconds *= 0.9  # The machine has become faster.
        except Interrupted:
            interrupted += 1
        for thread in set(threading.enumerate()) - before:
            for _ in range(1000):  # Not one wait of 100 s: the machine may stand still meanwhile.
                if not thread.is_alive():  # One that was interrupted at its start never is.
                    break
                thread.join(0.1)
            assert not thread.is_alive(), thread
        if (tmp_path / str(moment) / MANIFEST).exists():
            whole = saved_state.restore(tmp_path / str(moment), state)
            jax.tree.map(np.testing.assert_array_equal, whole, state)
    gc.collect()
    assert capsys.readouterr().err == ""
