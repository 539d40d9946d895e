"""Thousands of bundles with something wrong in them, for both loaders."""

import itertools
import json
import random
import re
import sys
import zlib

import numpy as np
import pytest
import safetensors.numpy

from optembed_jax import data
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import FORMAT_VERSION, BundleError, format_sums
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.serving.stored_model import Storage
from tests.support import bundles

LOADERS = {"jax": Bundle, "numpy": NumpyBundle}
# What a bundle tells about itself and nothing follows from.
TOLD = {"dataset", "metrics", "flags", "versions", "worth"}
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
    storage = Storage(("float32", "int4"), "int8", {"mlp/Dense_0/kernel": "int6"})
    bundles.make_half(folder / "bundle", prepared, rng, np.array([3, 2]), storage)
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
            return LOADERS[loader].load(tmp_path)
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
            assert served(bundle.manifest) == served(manifest), (number, changed)
    assert accepted < count / 2
    capfd.readouterr()  # What MLIR prints about damaged modules.


def served(manifest):
    """The part of a manifest that decides what is served."""
    left = {key: value for key, value in manifest.items() if key not in TOLD}
    left["model"] = {k: v for k, v in manifest["model"].items() if k in OF_SCORES}
    return left


KERNEL = "mlp/Dense_0/kernel"

LIES = {
    "a newer version": (
        lambda m: m.update(format_version=FORMAT_VERSION + 1),
        "install a newer optembed-jax",
    ),
    "the version of bags": (
        lambda m: m.update(format_version=FORMAT_VERSION),
        f"format version {FORMAT_VERSION} is of other fields",
    ),
    "slots": (lambda m: m["fields"][0].update(slots=2), "is of other fields"),
    "no slots": (lambda m: m["fields"][0].update(slots=0), "is of other fields"),
    "an older version": (lambda m: m.update(format_version=1), "write it again from its run"),
    "another format": (lambda m: m.update(format="zip"), "says format 'zip'"),
    "ids": (lambda m: m["fields"][0].update(ids=99), "rows for 99 ids, and no remap"),
    "rows": (lambda m: m["fields"][0].update(rows=1), "'user' has 1 rows for|rows/0 is"),
    "a dim": (lambda m: m["fields"][0].update(dim=2), "rows/0 is F32"),
    "a dim of codes": (lambda m: m["fields"][1].update(dim=3), "rows/1 holds no"),
    "no ids": (lambda m: m["fields"][0].update(ids=0), "columns for 0 ids"),
    "a negative dim": (lambda m: m["fields"][0].update(dim=-1), "-1 columns"),
    "absurdly many ids": (lambda m: m["fields"][0].update(ids=10**30), "for 10{30} ids"),
    "a number as text": (lambda m: m["fields"][0].update(dim="3"), "by other types"),
    "a truth": (lambda m: m["fields"][0].update(dim=True), "by other types"),
    "no number": (lambda m: m["fields"][0].update(rows=float("nan")), "by other types"),
    "a field less": (lambda m: m["fields"].pop(), "linear has shape|linear_scale is"),
    "no fields": (lambda m: m["fields"].clear(), "there are 0 fields"),
    "linear by id": (lambda m: m.update(linear_by_id=True), "no id is without a row"),
    "linear by id?": (lambda m: m.update(linear_by_id=0), "linear_by_id is 0"),
    "linear": (lambda m: m.update(linear="float32"), "linear is I8, not float32"),
    "no linear": (lambda m: m.update(linear=None), "does not fit the arrays"),
    "storage": (lambda m: m["fields"][0].update(storage="int5"), "storage 'int5'"),
    "fewer bits": (lambda m: m["fields"][1].update(storage="int2"), "codes of 2 bits"),
    "codes": (lambda m: m["fields"][0].update(storage="int8"), "codes of 8 bits"),
    "a kernel more": (lambda m: m["kernels"].update(x=["int8", 3]), "fit the arrays: 'network/x'"),
    "a kernel less": (lambda m: m["kernels"].clear(), "is U8, not float32"),
    "a kernel's bits": (lambda m: m["kernels"][KERNEL].__setitem__(0, "int8"), "of 8 bits"),
    "a kernel's inputs": (lambda m: m["kernels"][KERNEL].__setitem__(1, 4), "codes of 6 bits"),
    "smaller": (lambda m: m["bytes"].update(rows=8), "bytes are"),
    "no model": (lambda m: m["model"].pop("model"), "does not fit the arrays: 'model'"),
    "another width": (lambda m: m["model"].update(mlp_dims=[7]), r"layers of \[6\], not \[7\]"),
    "a larger full table": (lambda m: m.update(full_rows=10**9), "bytes are"),
    "a smaller full table": (lambda m: m.update(full_rows=3), "are of a table of 3 rows"),
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
    weights["network/logit/Dense_0/kernel"][:] = value
    changed = {"weights.safetensors": safetensors.numpy.save(weights)}
    message = "gives .* for its sample" if np.isfinite(value) else "holds a value that is no number"
    with pytest.raises(BundleError, match=message):
        load(loader, resealed(files, changed))


def values_of(files):
    """The values and lengths in the vocabulary file, inflated."""
    found = safetensors.numpy.load(files["vocabulary.safetensors"])
    return {name: bytearray(zlib.decompress(array.tobytes())) for name, array in found.items()}


def with_values(values):
    arrays = {name: np.frombuffer(zlib.compress(bytes(v)), np.uint8) for name, v in values.items()}
    return {"vocabulary.safetensors": safetensors.numpy.save(arrays)}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_vocabulary_that_lies_is_refused(files, load, loader):
    """Values twice, values that are none, and lengths that do not fit, under valid checksums."""
    rng = random.Random(2)
    real = values_of(files)
    texts, lengths = bytes(real["texts"]), list(real["lengths1"])
    assert len(lengths) > 5 and sum(lengths) == len(texts)
    starts = np.cumsum([0, *lengths]).tolist()
    pieces = [texts[a:b] for a, b in itertools.pairwise(starts)]
    for _ in range(150):
        kind = rng.choice(["twice", "less", "more", "stretch", "bytes", "cut"])
        values, sizes = list(pieces), None
        if kind == "twice":
            one, other = rng.sample(range(len(values)), 2)
            values[one] = values[other]
        elif kind == "less":
            del values[rng.randrange(len(values))]
        elif kind == "more":
            values.insert(rng.randrange(len(values)), b"more")
        elif kind == "stretch":
            sizes = [len(value) for value in values]
            sizes[rng.randrange(len(sizes))] += rng.choice([1, 7, 100])
        elif kind == "bytes":
            values[rng.randrange(len(values))] = rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80"])
        else:
            values[rng.randrange(len(values))] += b"x"
            sizes = [len(value) for value in pieces]
        lie = {
            "texts": b"".join(values),
            "lengths1": bytes(sizes or [len(value) for value in values]),
        }
        changed = with_values(lie)
        with pytest.raises(BundleError, match=r"vocabulary.safetensors cannot be used"):
            load(loader, resealed(files, changed))


DESCRIBED = {
    "no fields": lambda d: d["fields"].clear(),
    "other fields": lambda d: d["fields"].reverse(),
    "a rule that is none": lambda d: d["fields"][0].update(rule={"kind": "magic"}),
    "a rule of numbers": lambda d: d["fields"][0].update(rule=7),
    "edges that fall": lambda d: d["fields"][1]["edges"].reverse(),
    "edges of text": lambda d: d["fields"][1].update(edges=["a"]),
    "an edge that is no number": lambda d: d["fields"][1]["edges"].__setitem__(0, float("nan")),
    "a place out of range": lambda d: d["fields"][1]["places"].__setitem__(0, 10**6),
    "a place twice": lambda d: d["fields"][1]["places"].__setitem__(0, 2),
    "a place below": lambda d: d["fields"][1]["places"].__setitem__(0, -1),
    "no places": lambda d: d["fields"][1].pop("places"),
    "no source": lambda d: d["fields"][0].pop("source"),
    "a source of numbers": lambda d: d["fields"][0].update(source=3),
    "shares above one": lambda d: d["expected"]["unseen"].__setitem__(0, 1.5),
    "a share too few": lambda d: d["expected"]["unseen"].pop(),
    "no rows": lambda d: d["expected"].update(rows=0),
    "no expectation": lambda d: d.pop("expected"),
    "facts of text": lambda d: d.update(facts="x"),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("lie", DESCRIBED)
def test_a_description_that_lies_is_refused(files, load, loader, lie):
    described = json.loads(files["encoder.json"])
    DESCRIBED[lie](described)
    changed = {"encoder.json": dumped(described)}
    with pytest.raises(BundleError, match="cannot be used"):
        load(loader, resealed(files, changed))
