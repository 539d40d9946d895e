"""A bundle as one ONNX file: raw columns or ids in, probabilities out.

Whoever has onnxruntime serves it, in any language. The file holds rows, network and vocabulary,
uses operators of the standard alone (``ai.onnx`` and ``ai.onnx.ml``), and takes any batch size.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

from optembed_jax.errors import InputError
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_content import Content, read_content
from optembed_jax.serving.request import probabilities
from optembed_jax.storage.object_store import write_whole
from optembed_jax.targets.onnx_forward import Forward
from optembed_jax.targets.onnx_graph import Graph
from optembed_jax.targets.onnx_inputs import NOTHING, NUMBER, Inputs, inputs_of
from optembed_jax.targets.probes import check_equal, probe_columns, probe_ids
from optembed_jax.values.description import Description
from optembed_jax.values.lookup import Lookup

IDS = "ids"
PROBABILITY, LOGIT = "probability", "logit"

_LARGEST = 2**31 - 1  # bytes that one protocol buffer may have


def write(bundle: Bundle, path: pathlib.Path, takes_ids: bool) -> str:
    """Write a bundle as an ONNX file, after running it and comparing its logits.

    Args:
      bundle: loaded from a folder.
      path: of the file.
      takes_ids: whether it takes ``ids`` int64 ``[N, S]`` instead of raw columns.

    Returns:
      A line about what it takes and how far it differs.

    Raises:
      InputError: the bundle has no vocabulary, needs what ONNX has not, is too large for one file,
        or the file gives other logits.
    """
    takes_ids = takes_ids or not bundle.has_vocabulary
    model = model_of(bundle, takes_ids)
    if model.ByteSize() > _LARGEST:
        raise InputError(f"{path} would have {model.ByteSize():,} bytes; an ONNX file has 2 GiB")
    content = model.SerializeToString(deterministic=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    check(bundle, session, takes_ids)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    taken = ", ".join(f"{i.name} ({i.type})" for i in session.get_inputs())
    return f"{len(content):,} bytes; takes {taken}; gives {PROBABILITY}, {LOGIT}"


def model_of(bundle: Bundle, takes_ids: bool) -> onnx.ModelProto:
    """The model of a bundle; arguments as of :func:`write`."""
    content = read_content(bundle.path)
    graph = Graph()
    weights = None
    if takes_ids:
        places, weights = _places_of_ids(graph, bundle)
    else:
        columns = Inputs(graph, *_values_of(bundle)).places()
        places = graph.op("Concat", *map(graph.as_column, columns), axis=1)
        if bundle.fields.num_slots > bundle.fields.num_fields:
            empty = graph.op("Equal", places, graph.constant(np.int64(NOTHING)))
            places, weights = _counted(graph, bundle, places, empty)
    tensors = {name: np.asarray(array) for name, array in bundle.weights.items()}
    logit = Forward(graph, content, tensors).logits(places, weights)
    outputs = {PROBABILITY: graph.op("Sigmoid", logit), LOGIT: logit}
    return graph.model(outputs, _about(content))


def check(bundle: Bundle, session: onnxruntime.InferenceSession, takes_ids: bool) -> None:
    """Compare what a session gives with the bundle, in batches of several sizes.

    Raises:
      InputError: a logit differs.
    """
    ids = probe_ids(bundle.fields)
    if takes_ids:
        feed: dict[str, np.ndarray] = {IDS: ids.astype(np.int64)}
    else:
        rows = probe_columns(*_values_of(bundle))
        ids = bundle.encoder.encode(rows)
        feed = fed(rows, bundle.encoder.description)
    expected = bundle.logits(ids)
    for count in (1, 7, len(ids)):
        part = {name: values[:count] for name, values in feed.items()}
        probability, found = session.run([PROBABILITY, LOGIT], part)
        check_equal(found, expected[:count], "onnxruntime")
        check_equal(probability, probabilities(expected[:count]), "onnxruntime's sigmoid")


def fed(rows: Mapping[str, Any], description: Description) -> dict[str, np.ndarray]:
    """Raw columns as the inputs of the file: texts with "" where missing, doubles with NaN."""
    found = {}
    for name, (source, kind) in inputs_of(description).items():
        if kind == NUMBER:
            values = [np.nan if value is None else float(value) for value in rows[source]]
            found[name] = np.array(values, np.float64)
        else:
            found[name] = np.array([value or "" for value in rows[source]], object)
    return found


def _values_of(bundle: Bundle) -> tuple[Description, Lookup]:
    return bundle.encoder.description, bundle.encoder.vocabulary.lookup


def _places_of_ids(graph: Graph, bundle: Bundle) -> tuple[str, str | None]:
    """The ids less their field's first one, int64 ``[N, S]``, and what each slot counts.

    An id of another field becomes a place behind all: a runtime refuses that, where it would read
    a negative one from the end. A slot without a value reads its field's first row, and counts 0.
    """
    fields = bundle.fields
    of_slot = fields.field_of_slot
    ids = graph.input(IDS, TensorProto.INT64, fields.num_slots)
    offsets, sizes = (np.array(n, np.int64)[of_slot] for n in (fields.offsets, fields.sizes))
    place = graph.op("Sub", ids, graph.constant(offsets))
    below = graph.op("Less", place, graph.constant(np.int64(0)))
    above = graph.op("GreaterOrEqual", place, graph.constant(sizes))
    nowhere = graph.constant(np.int64(2**31 - 1))
    checked = graph.op("Where", graph.op("Or", below, above), nowhere, place)
    if fields.num_slots == fields.num_fields:
        return checked, None
    is_cell = np.array(fields.slots)[of_slot] > 1
    empty = graph.op("Equal", ids, graph.constant(np.int64(fields.num_features)))
    empty = graph.op("And", empty, graph.constant(is_cell))
    return _counted(graph, bundle, checked, empty)


def _counted(graph: Graph, bundle: Bundle, place: str, empty: str) -> tuple[str, str]:
    """Places with the first row in slots without a value, and what each slot counts."""
    fields, of_slot = bundle.fields, bundle.fields.field_of_slot
    weights = graph.floats(graph.op("Not", empty))
    if bundle.manifest["model"].get("pooling", "mean") == "mean":
        belongs = (of_slot[:, None] == np.arange(fields.num_fields)).astype(np.float32)
        count = graph.op("MatMul", weights, graph.constant(belongs))
        count = graph.op("Max", count, graph.constant(np.float32(1)))
        of_slots = graph.op("Gather", count, graph.constant(of_slot.astype(np.int64)), axis=1)
        weights = graph.op("Div", weights, of_slots)
    return graph.op("Where", empty, graph.constant(np.int64(0)), place), weights


def _about(content: Content) -> dict[str, str]:
    manifest = content.manifest
    versions = manifest.get("versions")
    return {
        "model": str(manifest["model"]["model"]),
        "dataset": str(manifest["dataset"].get("name", "")),
        "fields": ", ".join(field["name"] for field in manifest["fields"]),
        "written_by": "" if not isinstance(versions, Mapping) else str(versions),
    }
