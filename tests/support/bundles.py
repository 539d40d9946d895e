"""Small bundles of every backbone, mode and storage, with a vocabulary of every kind of column."""

import dataclasses
import itertools

import jax
import numpy as np

from optembed_jax import data
from optembed_jax.data.prepared import encoder_of
from optembed_jax.method.bag import bags_of
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.stored_model import Storage, served_network
from optembed_jax.table.compact import with_own_ids

BACKBONES = ("fm", "fnn", "deepfm", "ipnn", "dcn", "dcnv2", "autoint", "dlrm", "finalmlp")
MIXED = ("int6", "int3_field", "float16", "bfloat16", "int8")

# What can be pruned, and how ids then find their rows.
SHAPES = {
    "own ids": {"mode_oov": "shared", "mode_linear": "prune", "dims": (3, 2, 4, 0, 1)},
    "full ids": {"mode_oov": "oov", "mode_linear": "keep", "dims": (3, 2, 4, 0, 1)},
    "zeros": {"mode_oov": "zero", "mode_linear": "prune", "dims": (4, 4, 4, 4, 4)},
    "nothing pruned": {"mode": "none"},
    "no columns": {"mode_oov": "zero", "mode_linear": "keep", "dims": (0, 0, 0, 0, 0)},
}


# Of these backbones the shapes that differ for them: a field without columns, none, all fields so.
FEWER_SHAPES = {
    "autoint": ("own ids", "zeros", "no columns"),
    "dlrm": ("own ids", "no columns"),
    "finalmlp": ("full ids", "no columns"),
}


def cases():
    """Backbone, shape and storage: every pair of two of them."""
    storages = ("float32", "float16", "bfloat16", "int8", "int4", "int2_field", "mixed")
    return [
        (backbone, shape, storages[number % len(storages)])
        for number, (backbone, shape) in enumerate(itertools.product(BACKBONES, SHAPES))
        if shape in FEWER_SHAPES.get(backbone, SHAPES)
    ]


def prepared_table(folder):
    """A prepared table of texts, whole numbers, truths, days and numbers."""
    rng = np.random.default_rng(0)
    lines = ["click,user,zip,flag,day,age"]
    for _ in range(400):
        age = "" if rng.random() < 0.1 else f"{rng.normal(40, 15):.1f}"
        zipped = "" if rng.random() < 0.05 else rng.integers(30)
        lines.append(
            f"{rng.integers(2)},u{rng.integers(25)},{zipped},{rng.integers(2)},"
            f"2024-03-{rng.integers(1, 20):02d},{age}"
        )
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    options = data.DataOptions(
        table_file=str(folder / "rows.csv"),
        label="click",
        categorical=["user", "zip", "flag", "day"],
        numeric=["age"],
    )
    return data.prepare("table", options, folder / "data")


def prepared_cells(folder):
    """A prepared table of a field of one value and two whose cells hold several."""
    rng = np.random.default_rng(0)
    lines = ["click,user,tags,words"]
    for _ in range(300):
        tags, words = (
            "|".join(f"{kind}{n}" for n in rng.integers(0, size, rng.integers(0, 4)))
            for kind, size in (("t", 6), ("w", 20))
        )
        lines.append(f"{rng.integers(2)},u{rng.integers(9)},{tags},{words}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    options = data.DataOptions(
        table_file=str(folder / "rows.csv"),
        label="click",
        categorical=["user"],
        multi=["tags", "words"],
        separator="|",
        max_values=3,
        min_count=1,
    )
    return data.prepare("table", options, folder / "data")


def make_half(path, prepared, rng, dims, storage=None):
    """Writes a drawn deepfm with half of the values; and the ids that the data set's have in it."""
    config = ModelConfig(
        model="deepfm", latent_dim=4, mlp_dims=(6,), mode_oov="shared", mode_linear="prune"
    )
    fields = prepared.fields
    params, batch_stats = init_params(jax.random.key(0), config, fields)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), params)
    rows = rng.random(fields.num_features) < 0.5
    rows[fields.oov_ids] = True
    small, index = compact(config, params, fields, rows, dims)
    own, kept, new_ids = with_own_ids(index, fields.names)
    is_kept = new_ids != kept.oov_ids[fields.field_of_row]
    bundle = write_bundle(
        path,
        config,
        small,
        batch_stats,
        own,
        kept,
        storage=storage,
        encoder=encoder_of(prepared).keep(is_kept, prepared.counts, 1),
        full_rows=fields.num_features,
    )
    return bundle, new_ids


def make_cells(path, prepared, backbone, storage, pooling, mode_linear):
    """A bundle of random weights of such a table, with ids of the prepared data."""
    config = ModelConfig(
        model=backbone,
        latent_dim=4,
        mlp_dims=(6,),
        attention_units=4,
        mode_oov="oov",
        mode_linear=mode_linear,
        pooling=pooling,
    )
    fields, rng, encoder = prepared.fields, np.random.default_rng(5), encoder_of(prepared)
    params, stats = init_params(jax.random.key(0), config, fields)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), params)
    rows = rng.random(fields.num_features) < 0.6
    small, index = compact(config, params, fields, rows, np.array([3, 2, 3]))
    fields = dataclasses.replace(fields, slots=encoder.slots)
    index = dataclasses.replace(index, bags=bags_of(fields, pooling))
    kernels = kernels_of(served_network(small, stats))
    chosen = Storage.uniform(storage, 3, kernels)
    return write_bundle(path, config, small, stats, index, fields, storage=chosen, encoder=encoder)


def make_bundle(path, prepared, backbone, shape, storage="float32", mlp_dims=(6, 5)):
    """A bundle of random weights; the table is cut as ``SHAPES`` says."""
    *model, chosen, encoder = cut_model(prepared, backbone, shape, storage, mlp_dims)
    rows = prepared.fields.num_features
    return write_bundle(path, *model, storage=chosen, encoder=encoder, full_rows=rows)


def cut_model(prepared, backbone, shape, storage="float32", mlp_dims=(6, 5)):
    """What such a bundle is written of: config, parameters, statistics, index, fields, storage and
    encoder.
    """
    options = dict(SHAPES[shape])
    dims = options.pop("dims", None)
    sizes = {"latent_dim": 4, "mlp_dims": mlp_dims, "attention_units": 4}
    config = ModelConfig(model=backbone, **sizes, **options)
    fields = prepared.fields
    rng = np.random.default_rng(5)
    params, stats = init_params(jax.random.key(0), config, fields)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), params)
    rows = None
    if dims is not None:
        rows = rng.random(fields.num_features) < 0.5
        rows[fields.oov_ids] = config.mode_oov == "shared"
    small, index = compact(config, params, fields, rows, None if dims is None else np.array(dims))
    encoder = encoder_of(prepared)
    if shape == "own ids":
        own, kept, new_ids = with_own_ids(index, fields.names)
        has_row = new_ids != kept.oov_ids[fields.field_of_row]
        encoder = encoder.keep(has_row, prepared.counts, 1)
        index, fields = own, kept
    kernels = kernels_of(served_network(small, stats))
    chosen = Storage.uniform("int8" if storage == "mixed" else storage, 5, kernels)
    if storage == "mixed":
        chosen = dataclasses.replace(chosen, rows=MIXED, kernels=dict.fromkeys(kernels, "int4"))
    return config, small, stats, index, fields, chosen, encoder
