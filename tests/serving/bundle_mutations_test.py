"""Thousands of bundles with something wrong in them, for both loaders."""

import json
import random
import re
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from optembed_jax import data
from optembed_jax.data.prepared import encoder_of
from optembed_jax.models.forward import init_params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import BundleError, format_sums
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.numpy_bundle import NumpyBundle

LOADERS = {"jax": Bundle, "numpy": NumpyBundle}
# What a bundle tells about itself and nothing follows from.
TOLD = {"dataset", "metrics", "flags", "versions"}
OF_SCORES = {"model", "latent_dim", "mlp_dims"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a bundle with a vocabulary."""
    folder = tmp_path_factory.mktemp("mutations")
    rng = np.random.default_rng(0)
    lines = [f"{rng.integers(2)},u{rng.integers(12)},{rng.integers(90)}" for _ in range(160)]
    (folder / "rows.csv").write_text("\n".join(["click,user,age", *lines]) + "\n")
    options = data.DataOptions(
        table_file=str(folder / "rows.csv"), label="click", categorical=["user"], numeric=["age"]
    )
    prepared = data.prepare("table", options, folder / "data")
    config = ModelConfig(model="deepfm", latent_dim=4, mlp_dims=(6,), mode_oov="oov")
    fields = prepared.fields
    params, batch_stats = init_params(jax.random.key(0), config, fields)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), params)
    rows = rng.random(fields.num_features) < 0.5
    small, index = compact(config, params, fields, rows, np.array([3, 2]))
    write_bundle(
        folder / "bundle", config, small, batch_stats, index, fields, encoder=encoder_of(prepared)
    )
    return {path.name: path.read_bytes() for path in (folder / "bundle").iterdir()}


@pytest.fixture
def load(files, tmp_path):
    """Loads the bundle with some files changed (None: removed), then puts it back in order."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    def load(loader, changed):
        for name, content in changed.items():
            if content is None:
                (tmp_path / name).unlink()
            else:
                (tmp_path / name).write_bytes(content)
        try:
            bundle = LOADERS[loader].load(tmp_path)
            if loader == "jax":
                _ = bundle.encoder
            return bundle
        finally:
            for name in changed:
                (tmp_path / name).unlink(missing_ok=True)
                if name in files:
                    (tmp_path / name).write_bytes(files[name])

    return load


def mutated(rng, files):
    """One random change: ``{name: content}``, never the content that was there."""
    name = rng.choice(sorted(files))
    content = bytearray(files[name])
    kind = rng.choice(
        ["flip", "byte", "cut", "append", "insert", "empty", "swap", "twice", "remove", "rename"]
    )
    if kind == "remove":
        return {name: None}
    if kind == "rename":
        other = rng.choice([n for n in files if n != name])
        return {name: None, rng.choice([other, name + "~", name.swapcase()]): files[name]}
    if kind == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    elif kind == "cut":
        del content[rng.randrange(len(content)) :]
    elif kind == "append":
        content += rng.choice([b"\n", b" ", b"\0", b"{}", rng.randbytes(20)])
    elif kind == "insert":
        content.insert(rng.randrange(len(content)), rng.randrange(256))
    elif kind == "empty":
        content = bytearray()
    elif kind == "swap":
        content = bytearray(files[rng.choice([n for n in files if n != name])])
    elif kind == "twice":
        content += bytes(content)
    return {name: bytes(content)}


def resealed(files, changed):
    """The change with checksums of its own, as a liar would write them."""
    whole = {**files, **changed}
    whole = {n: c for n, c in whole.items() if c is not None and n != "SHA256SUMS"}
    return {**changed, "SHA256SUMS": format_sums(whole)}


@pytest.mark.parametrize("loader", LOADERS)
def test_changed_bundles_are_refused(files, load, loader):
    rng = random.Random(0)
    for number in range(1000):
        with pytest.raises(BundleError):
            load(loader, mutated(rng, files))
            pytest.fail(f"mutation {number} was accepted")


def random_json(rng):
    numbers = [-1, 0, 1, 7, 2**31, 2**63, 10**30, 0.5, 1e400, float("nan")]
    others = [
        None,
        True,
        "",
        "x",
        "../x",
        [],
        {},
        [1, "a"],
        {"a": 1},
        [[2]],
        deep(rng.choice(DEEP)),
    ]
    return rng.choice(numbers + others)


DEEP = [5, 20, 100, *(sys.getrecursionlimit() - n for n in range(10, 200, 10))]


def deep(levels):
    """Stands for so many brackets in each other, which Python itself could not write."""
    return f"deep {levels}"


def edited(rng, value):
    """The JSON value with one part of it replaced or removed."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: edited(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        if rng.random() < 0.15:
            return value[:place] + value[place + 1 :]
        return [*value[:place], edited(rng, value[place]), *value[place + 1 :]]
    return random_json(rng)


def dumped(value):
    return re.sub(
        '"deep ([0-9]+)"', lambda m: "[" * int(m[1]) + "]" * int(m[1]), json.dumps(value)
    ).encode()


@pytest.mark.parametrize(("loader", "count"), [("jax", 400), ("numpy", 1000)])
def test_lies_under_new_checksums_never_crash_and_hide_only_what_is_told(
    files, load, loader, count, capfd
):
    """Checksums that a liar renews leave the checks of content: none may end in a traceback.

    Half of them are edits of the manifest, of which those that are accepted may differ in what the
    bundle tells about itself alone; the other half are damaged files.
    """
    rng = random.Random(1)
    manifest = json.loads(files["manifest.json"])
    accepted = 0
    for number in range(count):
        is_edit = number % 2 == 0
        changed = mutated(rng, files)
        if is_edit:
            changed = {"manifest.json": dumped(edited(rng, manifest))}
        try:
            bundle = load(loader, resealed(files, changed))
        except BundleError:
            continue
        accepted += 1
        if is_edit:
            assert served(bundle.manifest, loader) == served(manifest, loader), (number, changed)
    assert accepted < count / 2
    capfd.readouterr()  # What MLIR prints about damaged modules.


def served(manifest, loader):
    """The part of a manifest that decides what is served, as far as the loader can know."""
    left = {key: value for key, value in manifest.items() if key not in TOLD}
    left["model"] = {k: v for k, v in manifest["model"].items() if k in OF_SCORES}
    if (
        loader == "numpy"
    ):  # Names are compared with those of the vocabulary, which it does not read.
        left["fields"] = [{**field, "name": ""} for field in manifest["fields"]]
    return left


LIES = {
    "a newer version": (lambda m: m.update(format_version=3), "install a newer optembed-jax"),
    "another format": (lambda m: m.update(format="zip"), "says format 'zip'"),
    "a shape": (lambda m: m["tensors"]["rows/0"].update(shape=[1, 1]), r"about \['rows/0'\]"),
    "a type": (lambda m: m["tensors"]["rows/0"].update(dtype="F16"), r"about \['rows/0'\]"),
    "a tensor less": (lambda m: m["tensors"].pop("linear"), r"about \['linear'\]"),
    "a tensor more": (lambda m: m["tensors"].update(x=m["tensors"]["linear"]), r"about \['x'\]"),
    "rows": (lambda m: m["fields"][0].update(rows=99), "the remap of field 'user'"),
    "rows kept": (lambda m: m["fields"][0].update(rows_kept=1), "'user' should have 2 rows"),
    "a dim": (lambda m: m["fields"][1].update(dim=3), "field 'age' should have"),
    "no rows": (lambda m: m["fields"][0].update(rows=0), "of 0 rows"),
    "a negative dim": (lambda m: m["fields"][0].update(dim=-1), "-1 columns"),
    "absurdly many rows": (lambda m: m["fields"][0].update(rows=10**30), "of 10{30} rows"),
    "a number as text": (lambda m: m["fields"][0].update(dim="3"), "by other types"),
    "a truth": (lambda m: m["fields"][0].update(dim=True), "by other types"),
    "no number": (lambda m: m["fields"][0].update(rows=float("nan")), "by other types"),
    "OOV as a number": (lambda m: m["fields"][0].update(has_oov_row=1), "by other types"),
    "a field less": (lambda m: m["fields"].pop(), "linear has shape"),
    "no fields": (lambda m: m["fields"].clear(), "there are 0 fields"),
    "linear pruned": (lambda m: m.update(prunes_linear=True), "linear has shape"),
    "linear pruned?": (lambda m: m.update(prunes_linear=0), "prunes_linear is 0"),
    "storage": (lambda m: m.update(storage="int4"), "storage 'int4'"),
    "fewer bits": (lambda m: m.update(storage="int8"), "is F32, not of storage int8"),
    "smaller": (lambda m: m["bytes"].update(rows=8), "bytes are"),
    "no model": (lambda m: m["model"].pop("model"), "does not fit the arrays: 'model'"),
    "another width": (lambda m: m["model"].update(mlp_dims=[7]), r"layers of \[6\], not \[7\]"),
    "a larger full table": (lambda m: m["bytes"].update(full_table=10**9), "bytes are"),
    "files": (lambda m: m.update(files=["weights.safetensors"]), "lists the files"),
    "a path": (lambda m: m.update(files=["../weights.safetensors"]), "lists the files"),
    "its depth": (lambda m: m["flags"].update(x=deep(12)), "nested deeper"),
    "great depth": (lambda m: m["flags"].update(x=deep(5000)), "not the manifest|nested deeper"),
    "a logit": (lambda m: m["samples"]["logits"].__setitem__(3, 0.125), "for its sample 3, 0.125"),
    "no logit": (
        lambda m: m["samples"]["logits"].__setitem__(3, float("nan")),
        "cannot be scored: logits",
    ),
    "a sample less": (lambda m: m["samples"]["ids"].pop(), "samples cannot be scored"),
    "no samples": (lambda m: m.pop("samples"), "samples cannot be scored: 'samples'"),
    "ids of nothing": (lambda m: m["samples"]["ids"][0].__setitem__(0, 10**6), "id 1000000 is not"),
    "wide ids": (lambda m: m["samples"]["ids"][0].__setitem__(0, 10**30), "object ids"),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("lie", LIES)
def test_lies_are_named(files, load, loader, lie):
    edit, message = LIES[lie]
    manifest = json.loads(files["manifest.json"])
    edit(manifest)
    with pytest.raises(BundleError, match=message):
        load(loader, resealed(files, {"manifest.json": dumped(manifest)}))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m["model"].update(model="mlp"), "model must be one of"),
        (lambda m: m["model"].update(extra=1), "is not valid"),
        (lambda m: m["fields"][0].update(name="item"), "vocabulary.safetensors cannot be used"),
    ],
)
def test_what_only_the_library_knows(files, load, edit, message):
    manifest = json.loads(files["manifest.json"])
    edit(manifest)
    with pytest.raises(BundleError, match=message):
        load("jax", resealed(files, {"manifest.json": dumped(manifest)}))


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_weights_of_others_are_refused(files, load, loader, value):
    weights = {k: v.copy() for k, v in safetensors.numpy.load(files["weights.safetensors"]).items()}
    weights["network/logit/Dense_0/kernel"][0] = value
    changed = {"weights.safetensors": safetensors.numpy.save(weights)}
    message = "gives .* for its sample" if np.isfinite(value) else "holds a value that is no number"
    with pytest.raises(BundleError, match=message):
        load(loader, resealed(files, changed))
