"""Bundles whose fields look values up in tables: what is stored of them, read, and refused."""

import json
import random
from typing import NamedTuple

import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.data.prepared import encoder_of
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import ENCODER, TABLES, VOCABULARY, BundleError, format_sums
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.serving.planned_bytes import cost_of
from optembed_jax.values.lookup_tables import read_tables, write_tables
from tests.support import bundles

LOADERS = {"jax": Bundle, "numpy": NumpyBundle}
RAW = {
    "userId": ["1", "7", "3", "x"],
    "movieId": ["1", "3", "12", "99"],
    "timestamp": ["978300000", "978300001", "0", "1"],
}


class Made(NamedTuple):
    files: dict
    scores: np.ndarray
    of_ids: np.ndarray | None
    prepared: data.PreparedData


@pytest.fixture(scope="module", params=["", "genres"])
def bundle(tmp_path_factory, request):
    """A bundle with half of the values of ratings of made films, and the scores of some rows."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    rated = rng.integers(1, (15, 31), (300, 2)).tolist()
    ratings = [
        f"{user},{film},{1 + row % 9 / 2},{978300000 + row * 9_999}\n"
        for row, (user, film) in enumerate(rated)
    ]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(ratings))
    genres = ["Drama", "Crime|Drama", "Comedy", "(no genres listed)", "War|Drama|Comedy"]
    films = [f"{film},Film {film} ({1950 + film % 9}),{genres[film % 5]}\n" for film in range(31)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "".join(films))
    multi = tuple(filter(None, [request.param]))
    slots = {"max_values": 3} if multi else {}
    options = data.DataOptions(raw_dir=str(folder), multi=multi, min_count=1, **slots)
    prepared = data.prepare("movielens", options, folder / "data")
    fields = prepared.fields
    made, new_ids = bundles.make_half(
        folder / "bundle", prepared, rng, np.full(fields.num_fields, 3)
    )
    ids = new_ids[encoder_of(prepared).encode(RAW).clip(max=fields.num_features - 1)]
    files = {path.name: path.read_bytes() for path in (folder / "bundle").iterdir()}
    return Made(files, made.predict(RAW), None if multi else made.predict(ids), prepared)


STEPS = (
    ["lookup"],
    ["lookup", "movies"],
    ["lookup", "movies", 3],
    ["lookup", "movies", -1],
    ["lookup", "movies", "0"],
    ["lookup", "films", 0],
)


@pytest.fixture
def load(bundle, tmp_path):
    """Loads the bundle with some files changed, or removed where None; checksums as told."""

    def load(loader, changed=(), resealed=True):
        files = {**bundle.files, **dict(changed)}
        files = {name: content for name, content in files.items() if content is not None}
        if resealed:
            files["SHA256SUMS"] = format_sums({n: c for n, c in files.items() if n != "SHA256SUMS"})
        for path in tmp_path.iterdir():
            path.unlink()
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return LOADERS[loader].load(tmp_path)

    return load


@pytest.mark.parametrize("loader", LOADERS)
def test_tables_are_read_as_they_were(bundle, load, loader):
    files, scores, of_ids, _ = bundle
    assert b"Drama" not in files[ENCODER] and set(read_tables(files[TABLES])) == {"movies"}
    found = load(loader).predict(RAW)
    np.testing.assert_allclose(found, scores, atol=1e-6)
    if of_ids is not None:
        np.testing.assert_allclose(found, of_ids, atol=1e-6)


@pytest.mark.parametrize("loader", LOADERS)
def test_tables_may_stand_where_they_once_did(bundle, load, loader):
    files, scores, *_ = bundle
    described = json.loads(files[ENCODER])
    described["facts"] |= read_tables(files[TABLES])
    changed = {ENCODER: json.dumps(described).encode(), TABLES: None}
    np.testing.assert_allclose(load(loader, changed).predict(RAW), scores, atol=1e-6)


@pytest.mark.parametrize("loader", LOADERS)
def test_what_does_not_belong_together_is_refused(bundle, load, loader):
    tables, written = read_tables(bundle.files[TABLES]), json.loads(bundle.files[ENCODER])

    def described(step):
        fields = [{**f, **({"step": step} if "step" in f else {})} for f in written["fields"]]
        return json.dumps({**written, "fields": fields}).encode()

    def inline(row):
        facts = {**written["facts"], "movies": {**tables["movies"], "1": row}}
        return json.dumps({**written, "facts": facts}).encode()

    for changed, told in [
        ({TABLES: None}, "does not say how fields are made"),
        ({TABLES: write_tables({"films": tables["movies"]})}, "does not say how fields are made"),
        ({TABLES: write_tables({**tables, "x": {"1": ("a",)}})}, "its tables are"),
        ({TABLES: b"no tables"}, "its tables cannot be read"),
        ({ENCODER: None, VOCABULARY: None}, f"{TABLES}, but no {ENCODER}"),
        *(({ENCODER: described(step)}, "does not say how fields are made") for step in STEPS),
        ({ENCODER: inline("xyz"), TABLES: None}, "a table has other than texts"),
        ({ENCODER: inline([1, 2, 3]), TABLES: None}, "a table has other than texts"),
    ]:
        with pytest.raises(BundleError, match=told):
            load(loader, changed)


@pytest.mark.parametrize("loader", LOADERS)
def test_damaged_tables_are_refused(bundle, load, loader):
    """Under the old checksum always; under a new one no other error comes of it."""
    rng = random.Random(0)
    content = bundle.files[TABLES]
    for _ in range(50):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        with pytest.raises(BundleError, match="its checksum differs"):
            load(loader, {TABLES: bytes(damaged)}, resealed=False)
        try:
            load(loader, {TABLES: bytes(damaged)})
        except BundleError as error:
            assert "its tables" in str(error)


@pytest.mark.parametrize("loader", LOADERS)
def test_tables_that_lie_are_refused_or_read_another_row(bundle, load, loader):
    """Places that are not there are told when the bundle is loaded, not by a request."""
    table = read_tables(bundle.files[TABLES])["movies"]
    fewer = {key: row[:1] for key, row in table.items()}
    with pytest.raises(BundleError):
        load(loader, {TABLES: write_tables({"movies": fewer})})
    turned = dict(zip(table, reversed(table.values()), strict=True))
    assert load(loader, {TABLES: write_tables({"movies": turned})}).predict(RAW).shape == (4,)


def test_what_is_planned_is_what_values_and_tables_take(bundle):
    fields, encoder = bundle.prepared.fields, encoder_of(bundle.prepared)
    config = ModelConfig(
        model="deepfm", latent_dim=4, mlp_dims=(6,), mode_oov="shared", mode_linear="prune"
    )
    values = cost_of(config, fields, encoder, own_ids=True).values

    def taken(rows):
        kept = encoder.keep(rows, bundle.prepared.counts, 1)
        return sum(len(content) for content in kept.written()[1:])

    draw, nothing = np.random.default_rng(0), np.zeros(fields.num_features, bool)
    for share in (0.0, 0.2, 0.5, 1.0):
        rows = draw.random(fields.num_features) < share
        rows[fields.oov_ids] = False
        planned = fields.rows_per_field(rows) @ values.of_row + values.more(rows)
        assert planned == pytest.approx(taken(rows) - taken(nothing))
    every = ~nothing
    every[fields.oov_ids] = False
    assert taken(every) > taken(nothing) + 100  # or there were nothing to plan
    whole = cost_of(config, fields, encoder, own_ids=False)
    assert whole.values is None and whole.fixed > taken(every) + taken(nothing) / 2
