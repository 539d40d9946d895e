import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from optembed_jax.errors import CheckpointError, InputError
from optembed_jax.storage import saved_state, state_manifest, state_structure
from optembed_jax.training.checkpoint import Checkpoints


@flax.struct.dataclass
class Index:
    rows: jax.Array
    dims: tuple[int, ...] = flax.struct.field(pytree_node=False)


INDEX = Index(jnp.arange(3), (4, 2))


def test_what_orbax_does_not_compare_is_described_by_its_place():
    adam = optax.ScaleByAdamState(jnp.array(1), {"t": jnp.zeros((2, 0))}, {"t": jnp.zeros(1)})
    state = {"a": [INDEX, None], "key": jax.random.key(0), "opt": (adam,), "x": jnp.ones(2)}
    assert state_structure.describe(state) == {
        "a.0.dims": "(4, 2)",
        "key": "key<fry>",
        "opt.0.mu.t": "float32[2, 0]",
    }
    assert state_structure.describe(jax.eval_shape(lambda: state)) == state_structure.describe(
        state
    )
    assert state_structure.describe({}) == state_structure.describe(None) == {}


@pytest.mark.parametrize(
    ("saved", "like", "message"),
    [
        (INDEX, dataclasses.replace(INDEX, dims=(4, 3)), r"dims is \(4, 2\), and \(4, 3\) is exp"),
        (
            {"i": INDEX, "j": jnp.ones(1)},
            {"i": {"rows": INDEX.rows}, "j": jnp.ones(1)},
            r"i\.dims is \(4, 2\), and nothing is expected",
        ),
        (
            {"key": jax.random.key(0, impl="unsafe_rbg")},
            {"key": jax.random.key(0, impl="rbg")},
            "key is key<urbg>, and key<rbg> is expected",
        ),
        (
            {"x": jnp.zeros((0, 4)), "y": jnp.ones(1)},
            {"x": jnp.zeros((0, 3)), "y": jnp.ones(1)},
            r"x is float32\[0, 4\], and float32\[0, 3\] is expected",
        ),
        (
            {"x": jnp.zeros((0, 4)), "y": jnp.ones(1)},
            {"x": jnp.zeros((1, 4)), "y": jnp.ones(1)},
            r"x is nothing, and float32\[1, 4\] is expected",
        ),
    ],
    ids=["static-field", "no-static-field", "generator", "empty", "not-empty"],
)
def test_a_state_that_differs_in_it_is_refused_by_name(tmp_path, saved, like, message):
    saved_state.save(tmp_path / "state", saved)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(
            jax.tree.map(_data, one)
            for one in (saved_state.restore(tmp_path / "state", saved), saved)
        ),
    )
    with pytest.raises(InputError, match=message):
        saved_state.restore(tmp_path / "state", like)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, saved, {})
    checkpoints.wait()
    with pytest.raises(InputError, match=message):
        checkpoints.latest(like)
    checkpoints.close()


def _data(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


@pytest.mark.parametrize("on_host", [False, True])
@pytest.mark.parametrize("others", [{}, {"y": jnp.arange(2.0)}], ids=["alone", "beside-others"])
def test_arrays_without_elements_are_saved_and_come_back(tmp_path, on_host, others):
    state = {"x": jnp.zeros((0, 4)), "n": {"z": jnp.zeros((3, 0), jnp.int32)}, **others}
    saved_state.save(tmp_path / "state", state)
    found = saved_state.restore(tmp_path / "state", jax.eval_shape(lambda: state), on_host=on_host)
    jax.tree.map(np.testing.assert_array_equal, found, state)
    assert found["n"]["z"].dtype == jnp.int32 and found["x"].shape == (0, 4)
    assert isinstance(found["x"], np.ndarray if on_host else jax.Array)


def test_an_array_without_elements_goes_where_it_is_asked_to(tmp_path):
    sharding = jax.sharding.NamedSharding(
        jax.make_mesh((4,), ("data",)), jax.sharding.PartitionSpec("data")
    )
    state = {"x": jnp.zeros((0, 4)), "y": jnp.ones(4)}
    saved_state.save(tmp_path / "state", state)
    like = {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=sharding) for k, v in state.items()}
    found = saved_state.restore(tmp_path / "state", like)
    assert found["x"].sharding == found["y"].sharding == sharding


def test_scalars_of_numpy_are_saved_and_other_leaves_are_named(tmp_path):
    saved_state.save(tmp_path / "state", {"x": np.float32(2.5)})
    found = saved_state.restore(tmp_path / "state", {"x": jnp.float32(0)})
    assert found["x"] == 2.5 and found["x"].dtype == jnp.float32
    with pytest.raises(CheckpointError, match=r"n\.1 is a int, and an array is needed"):
        saved_state.save(tmp_path / "other", {"n": [jnp.ones(1), 3]})
    assert not (tmp_path / "other").exists()


def test_a_state_of_an_earlier_version_is_read(tmp_path):
    saved_state.save(tmp_path / "state", INDEX)
    (tmp_path / "state" / state_manifest.MANIFEST).unlink()
    state_manifest.write(epath.Path(tmp_path) / "state", {})  # Which held no structure.
    found = saved_state.restore(tmp_path / "state", INDEX)
    np.testing.assert_array_equal(found.rows, INDEX.rows)
