"""What is planned for a bundle, against the folder that is written."""

import dataclasses

import jax
import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.data.prepared import encoder_of
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving.bundle_writer import Provenance, write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.planned_bytes import STORAGE, cost_of
from optembed_jax.serving.stored_model import Storage, served_network
from optembed_jax.table.compact import with_own_ids

SIZES = (3000, 400, 12)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planned")
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.permutation(np.arange(6000) % size) for size in SIZES], axis=1)
    names = [[f"{n * 2654435761 % 2**32:08x}" for n in range(size)] for size in SIZES]
    rows = [
        ",".join([*(own[n] for own, n in zip(names, row, strict=True)), str(click)])
        for row, click in zip(drawn.tolist(), rng.integers(2, size=6000).tolist(), strict=True)
    ]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,click", *rows]) + "\n")
    options = data.DataOptions(
        table_file=str(folder / "rows.csv"),
        label="click",
        categorical=("a", "b", "c"),
        min_count=1,
    )
    return data.prepare("table", options, folder / "data")


@pytest.mark.parametrize(
    ("model", "oov", "share"),
    [("deepfm", "shared", 0.7), ("fnn", "shared", 0.1), ("ipnn", "zero", 0.4)],
)
def test_it_is_near_what_a_bundle_takes(prepared, tmp_path, model, oov, share):
    config = ModelConfig(
        model=model,
        latent_dim=8,
        mlp_dims=(64, 8),
        mode="all",
        mode_threshold="budget",
        mode_oov=oov,
        mode_linear="prune",
    )
    fields, encoder, dims = prepared.fields, encoder_of(prepared), np.array([8, 3, 5])
    cost = cost_of(config, fields, encoder, own_ids=oov == "shared")
    kept = np.random.default_rng(1).random(fields.num_features) < share
    kept[fields.oov_ids] = True
    params, batch_stats = init_params(jax.random.key(0), config, fields)
    small, index = compact(config, params, fields, kept, dims)
    if oov == "shared":
        index, fields, _ = with_own_ids(index, fields.names)
        encoder = encoder.keep(kept, prepared.counts, 1)
    kernels = dict.fromkeys(kernels_of(served_network(small, batch_stats)), "int8")
    linear = "int8" if config.has_linear_term else "float32"
    storage = Storage((STORAGE,) * fields.num_fields, linear, kernels)
    write_bundle(
        tmp_path / "b", config, small, batch_stats, index, fields, storage=storage, encoder=encoder
    )
    written = sum(file.stat().st_size for file in (tmp_path / "b").iterdir())
    rows = prepared.fields.rows_per_field(kept)
    expected = float(cost.bytes(rows, dims))
    # Room for what a run tells of itself, and that few values are packed less well than many.
    assert 0.95 * written < expected < 1.05 * written + 1500
    # The same in the unit that a search counts in, and back.
    numbers = int(((rows + cost.per_dim) * dims).sum()) + cost.beside(kept, prepared.fields)
    assert numbers == cost.of_rows(kept, dims, prepared.fields)
    assert 0.95 * written < cost.told(numbers) < 1.05 * written + 1500
    assert cost.told(cost.numbers(rows, dims)) == pytest.approx(expected, abs=16)
    assert 0 <= cost.limit(cost.told(numbers)) - numbers <= 1


@pytest.mark.parametrize("dims", [(8, 3, 5), (1, 2, 1), (7, 7, 7), (8, 1, 3)])
def test_a_search_is_not_promised_more_than_a_bundle_of_any_widths_takes(prepared, tmp_path, dims):
    """Each width has an array of its own, which makes the module larger; codes end with a byte."""
    config = ModelConfig(
        latent_dim=8,
        mlp_dims=(8,),
        mode="all",
        mode_threshold="budget",
        mode_oov="shared",
        mode_linear="prune",
    )
    worth = dict.fromkeys(("auc", "logloss", "unseen"), [-0.12345] * 3)
    told = Provenance({"name": "table"}, {"test_auc": 0.12345678901234568}, worth=worth)
    fields, encoder = prepared.fields, encoder_of(prepared)
    cost = cost_of(config, fields, encoder, own_ids=True, told=told)
    kept = np.random.default_rng(1).random(fields.num_features) < 0.3
    kept[fields.oov_ids] = True
    params, batch_stats = init_params(jax.random.key(0), config, fields)
    small, index = compact(config, params, fields, kept, np.array(dims))
    index, own, _ = with_own_ids(index, fields.names)
    kernels = dict.fromkeys(kernels_of(served_network(small, batch_stats)), "int8")
    write_bundle(
        tmp_path / "b",
        config,
        small,
        batch_stats,
        index,
        own,
        storage=Storage((STORAGE,) * 3, "int8", kernels),
        encoder=encoder.keep(kept, prepared.counts, 1),
        provenance=told,
    )
    written = sum(file.stat().st_size for file in (tmp_path / "b").iterdir())
    expected = float(cost.bytes(fields.rows_per_field(kept), np.array(dims)))
    # The export may tell four metrics more.
    assert written + 200 <= expected < 1.1 * written + 1500


def test_rows_that_a_limit_pays_for(prepared):
    config = ModelConfig(model="fnn", latent_dim=8, mlp_dims=(8,))
    cost = cost_of(config, prepared.fields, encoder_of(prepared), own_ids=True)
    cost = dataclasses.replace(cost, of_row=np.full(3, 7.0), fixed=1000, of_dim=10.0)
    # A row takes 7 bytes and 8 numbers of half a byte; three fields of 8 columns 240.
    assert cost.affordable_rows(1240 + 11 * 50 + 10, np.array(SIZES), 8) == 50
    assert cost.affordable_rows(1239, np.array(SIZES), 8) == 0
    assert cost.bytes([10, 20, 20], [8, 8, 8]) == 1240 + 11 * 50
