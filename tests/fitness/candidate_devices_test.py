"""Candidates scored by four devices, against one device that scores them all."""

import jax
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax.fitness.candidate_devices import over_devices, rows_read
from optembed_jax.fitness.field_importance import field_importance
from optembed_jax.fitness.validation_fitness import make_fitness
from optembed_jax.models.model_config import ModelConfig

MODEL = ModelConfig("deepfm", 4, (6,), mode_oov="oov", mode_threshold="budget", row_keep=0.5)
CANDIDATES = np.array([[a, b, c] for a in (1, 4) for b in (2, 3) for c in (1, 2, 4)], np.int32)


@pytest.fixture
def supernet(fields, randomise):
    return jax.device_get(randomise(shapes_of_params(MODEL, fields)))


@pytest.fixture
def split(fields, draw_clicks):
    ids, labels = draw_clicks(fields, 64)
    ids[:, 1] = np.where(ids[:, 1] == 6, 7, ids[:, 1])  # A row that nobody reads.
    return ids, labels


def fitness_on(supernet, split, rows, scored=None):
    """``make`` of :func:`over_devices`; ``scored`` is told who scores how many of which rows."""

    def make(device):
        params, mask, ids = rows_read(supernet[0], rows, split[0])
        params, stats = jax.device_put((params, supernet[1]), device)
        fitness = make_fitness(
            MODEL, params, stats, mask, ids, split[1], batch_size=16, least_part=8
        )
        if scored is None:
            return fitness

        def told(part):
            def score(dims):
                scored.append((device.id, len(dims), params.table.rows.devices()))
                return part(dims)

            return score

        return type(fitness)(tuple(map(told, fitness.parts)), fitness.part_rows)

    return make


def test_a_fields_importance_is_that_of_one_device(supernet, split, fields):
    rows = np.arange(fields.num_features) % 3 != 0
    plain = make_fitness(
        MODEL, *jax.device_put(supernet), rows, *split, batch_size=16, least_part=8
    )
    spread = over_devices(fitness_on(supernet, split, rows), jax.devices()[:2])
    found, expected = (field_importance(f, np.array([2, 3, 1])) for f in (spread, plain))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    by_dims = plain(np.array([[2, 3, 1]]))[0] - plain(np.array([[0, 3, 1], [2, 0, 1], [2, 3, 0]]))
    assert np.abs(found - by_dims).max() > 0.01  # Linear weights are worth something here.


@pytest.mark.parametrize("count", [0, 1, 3, 12])
def test_four_devices_score_as_one_does(supernet, split, fields, count):
    rows = np.arange(fields.num_features) % 3 != 0
    plain = make_fitness(
        MODEL, *jax.device_put(supernet), rows, *split, batch_size=16, least_part=8
    )
    scored = []
    spread = over_devices(fitness_on(supernet, split, rows, scored), jax.devices()[:4])
    assert spread.part_rows == plain.part_rows == (8, 16, 64)
    for sharded, whole in zip(spread.parts, plain.parts, strict=True):
        scored.clear()
        found = sharded(CANDIDATES[:count])
        assert found.shape == (count,) and found.dtype == np.float64
        np.testing.assert_allclose(found, whole(CANDIDATES[:count]), rtol=0, atol=1e-6)
        devices = jax.devices()[:4]
        shares = {device: asked for device, asked, _ in scored}
        assert [shares[device.id] for device in devices] == [
            len(share) for share in np.array_split(np.arange(count), 4)
        ]
        assert all(where == {jax.devices()[device]} for device, _, where in scored)
    if count == len(CANDIDATES):
        assert len(set(found)) > 3  # Not all alike, so an order that is mixed up shows.
        assert found.argmax() == plain(CANDIDATES).argmax()


def test_a_partial_evaluation_is_sharded_too(supernet, split, monkeypatch):
    monkeypatch.setattr("optembed_jax.fitness.validation_fitness.LEAST_PARTIAL", 8)
    spread = over_devices(fitness_on(supernet, split, None, []), jax.devices()[:4])
    assert spread.partial is spread.parts[0]
    monkeypatch.setattr("optembed_jax.fitness.validation_fitness.LEAST_PARTIAL", 64)
    assert spread.partial is None


def test_one_device_scores_bit_for_bit_what_it_did_before(supernet, split):
    plain = make_fitness(MODEL, *jax.device_put(supernet), None, *split, batch_size=16)
    alone = over_devices(fitness_on(supernet, split, None), jax.devices()[:1])
    np.testing.assert_array_equal(alone(CANDIDATES), plain(CANDIDATES))


def test_only_the_rows_that_are_read_are_taken(supernet, fields):
    ids = np.array([[0, 8], [4, 8], [0, 5]], np.int32)
    mask = np.arange(fields.num_features) % 2 == 0
    params, rows, places = rows_read(supernet[0], mask, ids)
    assert params.table.rows.shape == (4, 4) and params.table.linear.shape == (4,)
    table = supernet[0].table
    np.testing.assert_array_equal(params.table.rows[places], table.rows[ids])
    np.testing.assert_array_equal(params.table.linear[places], table.linear[ids])
    np.testing.assert_array_equal(rows[places], mask[ids])
    np.testing.assert_array_equal(params.table.oov, table.oov)
    assert places.dtype == np.int32
    assert rows_read(supernet[0], None, ids)[1] is None
