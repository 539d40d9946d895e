"""Columns whose cells hold several values, prepared and encoded."""

import collections
import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optembed_jax import data
from optembed_jax.data import blocks
from optembed_jax.data.prepared import encoder_of
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.layout import FOUND
from optembed_jax.data.raw.table_file import source_of
from optembed_jax.data.splits import SPLITS
from optembed_jax.errors import InputError
from optembed_jax.values.cells import Cells, CutValues, with_slots

GENRES = ("war", "sci", "art", "doc", "fun", "kid")


def draw(count=400, seed=0):
    """Rows (user, cell, label): cells of no value, of one, of some twice, of one seen only here."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        cell = rng.choice(GENRES, rng.integers(0, 6)).tolist()
        cell = [*GENRES[:5]] if number == 7 else cell[:4]
        if number % 40 == 0:
            cell.append(f"rare{number}")
        rows.append((f"u{rng.integers(0, 7)}", cell, int(rng.random() < 0.4)))
    return rows


@pytest.fixture
def prepare(tmp_path):
    def run(rows, kind="csv", **options):
        if kind == "csv":
            path = tmp_path / f"clicks{len(list(tmp_path.iterdir()))}.csv"
            lines = [f"{user},{'|'.join(cell)},{label}" for user, cell, label in rows]
            path.write_text("\n".join(["user,genres,click", *lines]) + "\n")
            options = {"separator": "|"} | options
        else:
            path = tmp_path / "clicks.parquet"
            columns = dict(zip(("user", "genres", "click"), zip(*rows, strict=True), strict=True))
            columns["genres"] = pa.array(columns["genres"], pa.list_(pa.string()))
            pq.write_table(pa.table(columns), path)
        given = {"categorical": ("user",), "multi": ("genres",), "label": "click"} | options
        made = data.DataOptions(table_file=str(path), **given)
        return data.prepare("table", made, tmp_path / "out")

    return run


def read_back(prepared, split):
    """What the stored rows stand for: (user, values of the cell, label)."""
    ids, labels = prepared.arrays(split)
    nothing = prepared.fields.num_features
    found = []
    for row, label in zip(ids.tolist(), labels, strict=True):
        raw = [prepared.vocabulary.raw(own) for own in row if own != nothing]
        assert [own.field for own in raw] == ["user"] + ["genres"] * (len(raw) - 1)
        cell = [own.value if own.kind != "oov" else "?" for own in raw[1:]]
        found.append((raw[0].value, frozenset(collections.Counter(cell).items()), int(label)))
    return collections.Counter(found)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_come_back_as_sets_of_values(prepare, kind):
    rows = draw()
    prepared = prepare(rows, kind)
    assert prepared.fields.names == ("user", "genres") and prepared.fields.slots == (1, 5)
    expected = collections.Counter()
    for user, cell, label in rows:
        values = dict.fromkeys(cell) or {None: None}
        shown = ["?" if value and value.startswith("rare") else value for value in values]
        expected[user, frozenset(collections.Counter(shown).items()), label] += 1
    found = sum((read_back(prepared, split) for split in SPLITS), collections.Counter())
    assert found == expected
    assert prepared.cut == {} and prepared.left_out() == []


def test_every_value_of_a_cell_counts_for_the_vocabulary(prepare):
    prepared = prepare(draw(), min_count=3)
    ids, _ = prepared.arrays("train")
    nothing = prepared.fields.num_features
    counts = np.bincount(ids.ravel(), minlength=nothing + 1)
    np.testing.assert_array_equal(prepared.counts, counts[:nothing])
    first = prepared.fields.offsets[1]
    values = [prepared.vocabulary.raw(row).value for row in range(first, nothing)]
    assert set(values) == {None, *GENRES}  # the OOV row is None too
    assert prepared.counts[first] > 0 and (prepared.counts[first + 1 :] >= 3).all()


def test_text_and_lists_give_the_same(prepare):
    rows = draw()
    one, other = prepare(rows), prepare(rows, "parquet")
    for split in SPLITS:
        for a, b in zip(one.arrays(split), other.arrays(split), strict=True):
            np.testing.assert_array_equal(a, b)
    assert one.fields == other.fields


def test_in_quotes_what_stands_between_columns_may_stand_between_values(tmp_path, prepare):
    rows = draw()
    path = tmp_path / "quoted.csv"
    lines = [f'{user},"{", ".join(cell)}",{label}' for user, cell, label in rows]
    path.write_text("\n".join(["user,genres,click", *lines]) + "\n")
    options = data.DataOptions(
        table_file=str(path), label="click", categorical=("user",), multi=("genres",), separator=","
    )
    quoted, plain = data.prepare("table", options, tmp_path / "quoted"), prepare(rows)
    for split in SPLITS:
        for one, other in zip(quoted.arrays(split), plain.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_order_of_a_cell_does_not_matter_for_the_vocabulary(prepare):
    rows = draw()
    turned = [(user, cell[::-1], label) for user, cell, label in rows]
    one, other = prepare(rows), prepare(turned)
    for split in SPLITS:
        a, b = (np.sort(prepared.arrays(split)[0][:, 1:], axis=1) for prepared in (one, other))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", [{}, {"max_values": 1}])
def test_cells_of_one_value_are_a_plain_column(prepare, options):
    rows = [(user, cell[:1], label) for user, cell, label in draw()]
    plain = prepare(rows, multi=(), separator=None, categorical=("user", "genres"))
    bags = prepare(rows, **options)
    assert bags.fields == plain.fields
    for split in SPLITS:
        for a, b in zip(plain.arrays(split), bags.arrays(split), strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_is_cut_is_counted(prepare):
    rows = draw()
    prepared = prepare(rows, max_values=2)
    cut = sum(max(len(set(cell)) - 2, 0) for _, cell, _ in rows)
    assert prepared.fields.slots == (1, 2) and prepared.cut == {"genres": cut} and cut > 0
    (line,) = prepared.left_out()
    assert f"field 'genres': {cut:,} values were cut" in line and "max_values=2" in line
    assert data.load(prepared.path).cut == prepared.cut


@pytest.mark.parametrize("options", [{"split": "time", "time_column": "user"}, {"group": "user"}])
def test_other_ways_of_splitting_and_groups(prepare, options):
    rows = [(str(i), cell, label) for i, (_, cell, label) in enumerate(draw())]
    prepared = prepare(rows, min_count=1, vocab_from="all", **options)
    total = sum((read_back(prepared, split) for split in SPLITS), collections.Counter())
    assert total == collections.Counter(
        (user, frozenset(dict.fromkeys(dict.fromkeys(cell) or [None], 1).items()), label)
        for user, cell, label in rows
    )


@pytest.mark.parametrize("rows", [1, 3, 64, 65, 5000])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_new_rows_are_encoded_as_those_that_were_prepared(prepare, rows, kind):
    prepared = prepare(draw(), kind)
    encoder = encoder_of(prepared)
    assert encoder.slots == (1, 16)
    rng = np.random.default_rng(5)
    cells = [
        rng.choice([*GENRES, "new1", "new2", ""], rng.integers(0, 7)).tolist() for _ in range(rows)
    ]
    users = rng.choice(["u1", "u2", "nobody", ""], rows).tolist()
    fields, nothing = prepared.fields, prepared.fields.num_features
    expected = np.full((rows, 17), nothing)
    for row, (user, cell) in enumerate(zip(users, cells, strict=True)):
        expected[row, 0] = prepared.vocabulary.id("user", user or None)
        values = [value for value in dict.fromkeys(cell) if value] or [None]
        for slot, value in enumerate(values):
            expected[row, 1 + slot] = prepared.vocabulary.id("genres", value)
    assert (expected == fields.offsets[1]).sum() > 0 or rows == 1
    forms = [
        cells,
        pa.array(cells, pa.list_(pa.string())),
        pa.chunked_array([cells], pa.list_(pa.string())),
    ]
    forms.append(np.array([*map(np.array, cells), None], object)[:-1])  # ragged
    if kind == "csv":
        forms += [["|".join(cell) for cell in cells], pa.array(["|".join(cell) for cell in cells])]
    for form in forms:
        np.testing.assert_array_equal(encoder.encode({"user": users, "genres": form}), expected)
        own = with_slots(expected, encoder.slots, fields.slots, nothing)
        np.testing.assert_array_equal(prepared.encode({"user": users, "genres": form}), own)


@pytest.mark.parametrize("many", [1, 100])
def test_values_that_mean_the_same_are_one_in_a_cell(prepare, many):
    rows = [(user, ["1.0", "2.0", "3.0"][: len(cell)], label) for user, cell, label in draw()]
    prepared = prepare(rows, min_count=1)
    assert prepared.fields.sizes[1] == 1 + 4  # of the OOV row, three numbers, and missing
    cells = ["1|1.0", "1.00|1", [1.0, 1]] + ["2"] * (many - 1)
    found = prepared.encode({"user": ["u1"] * len(cells), "genres": cells})[:3, 1:]
    one = prepared.vocabulary.id("genres", "1.0")
    assert found.tolist() == [[one] + [prepared.fields.num_features] * 2] * 3


@pytest.mark.parametrize("many", [1, 100])
def test_a_text_where_lists_were_trained_on_is_refused(prepare, many):
    prepared = prepare(draw(), "parquet")
    rows = {"user": ["u1"] * many, "genres": [["war"]] * (many - 1) + ["war|sci"]}
    wanted = rf"row {many - 1}: column 'genres' is 'war\|sci', a list of values is needed"
    with pytest.raises(InputError, match=wanted):
        prepared.encode(rows)
    with pytest.raises(InputError, match=r"row 1: column 'genres'.*a list of values is needed"):
        prepared.encode({"user": ["u1"] * 2, "genres": pa.array([None, "war"])})


@pytest.mark.parametrize("many", [1, 100])
@pytest.mark.parametrize(
    ("genres", "wrong"),
    [
        ("war|sci", "'genres' is one value, a sequence of values is needed"),
        ([["war", ["sci"]]], "column 'genres'"),
        ([{"war": 1}], "column 'genres'"),
        ([3 + 4j], "column 'genres'"),
    ],
)
def test_what_is_no_column_of_cells_is_refused(prepare, many, genres, wrong):
    prepared = prepare(draw())
    column = genres if isinstance(genres, str) else [["war"]] * (many - 1) + genres
    with pytest.raises(InputError, match=wrong):
        prepared.encode({"user": ["u1"] * many, "genres": column})


@pytest.mark.parametrize("many", [1, 100])
def test_arrow_types_that_hold_no_values_in_lists_are_refused(prepare, many):
    encoder = encoder_of(prepare(draw()))
    pairs = pa.array([[1.0, 2.0]] * many, pa.list_(pa.float32(), 2))
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2]), pairs)
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([many], pa.int32()), pa.array(["war"]))
    for column in (tensors, runs, pa.chunked_array([tensors])):
        rows = {"user": ["u1"] * many, "genres": column}
        for encode in (encoder.encode, encoder.rows.encode):
            with pytest.raises(InputError, match="column 'genres'"):
                encode(rows)


def test_a_text_among_lists_without_a_separator_is_a_bad_row(tmp_path):
    rows = [{"user": u, "genres": cell, "click": label} for u, cell, label in draw()]
    rows[3]["genres"] = "war|sci"
    path = tmp_path / "clicks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"table_file": str(path), "label": "click", "multi": ("genres",)}
    with pytest.raises(InputError, match=r"line 4: column 'genres' is 'war\|sci', expected"):
        data.prepare("table", data.DataOptions(**options), tmp_path / "out")
    options |= {"separator": "|", "categorical": ("user",)}
    assert not data.prepare("table", data.DataOptions(**options), tmp_path / "out").rejected


def test_a_parquet_column_of_nothing_has_lists_of_nothing(prepare, tmp_path):
    prepared = prepare(draw(), "parquet")
    path = tmp_path / "new.parquet"
    pq.write_table(pa.table({"user": ["u1"], "genres": pa.nulls(1)}), path)
    encoder = encoder_of(prepared)
    source = source_of(RawFile(path), encoder.sources, FOUND, (), encoder.cells)
    (block,) = source.blocks()
    expected = encoder.encode({"user": ["u1"], "genres": [None]})
    np.testing.assert_array_equal(encoder.encode_rows(source.read(block)), expected)


def test_rows_of_mappings_are_told_what_is_needed(prepare):
    prepared = prepare(draw())
    with pytest.raises(InputError, match="a list of mappings"):
        prepared.encode([{"user": "u1", "genres": "war|sci"}])


def test_a_list_for_a_plain_column_is_refused(prepare):
    prepared = prepare(draw())
    for users in ([["u1"]], pa.array([["u1"]])):
        with pytest.raises(InputError, match="column 'user'"):
            prepared.encode({"user": users, "genres": ["war"]})


def test_stored_rows_are_batches_of_slots(prepare):
    prepared = prepare(draw())
    reader = data.Reader(prepared, "validation", 32, shuffle=False, remainder="pad")
    found = list(reader.epoch(0))
    ids = np.concatenate([batch.ids for batch in found])
    rows = prepared.num_rows["validation"]
    np.testing.assert_array_equal(ids[:rows], prepared.arrays("validation")[0])
    fields = prepared.fields
    assert (ids[rows:] == [*fields.offsets, *[fields.num_features] * 4]).all() and len(ids) > rows
    training = data.Reader(prepared, "train", 16, seed=3)
    rest = zip(training.epoch(2, start=5), [*training.epoch(2)][5:], strict=True)
    assert all((one.ids == other.ids).all() for one, other in rest)
    assert blocks.features(6)["ids"].shape == (None, 6)


def test_other_libraries_read_the_records(prepare):
    tfds = pytest.importorskip("tensorflow_datasets")
    prepared = prepare(draw())
    source = tfds.builder_from_directory(prepared.path).as_data_source("train")
    ids = np.concatenate([record["ids"] for record in source])
    np.testing.assert_array_equal(ids, prepared.arrays("train")[0])


def test_data_without_such_columns_keep_their_name_and_format(prepare):
    plain = prepare(draw(), multi=None, separator=None, categorical=("user", "genres"))
    assert not {"multi", "separator", "max_values"} & plain.options.keys()
    assert '"format": 2' in (plain.path / "prepared.json").read_text()
    assert '"format": 3' in (prepare(draw()).path / "prepared.json").read_text()


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"multi": ("nope",)}, "no column 'nope'"),
        ({"multi": ("click",)}, "the label 'click' cannot be a field"),
        ({"numeric": ("genres",)}, "'genres' is named in multi and in numeric"),
        ({"group": "genres"}, "'genres' is named in multi and in group"),
        ({"split": "time", "time_column": "genres"}, "in multi and in time_column"),
        ({"separator": None}, "nothing says what stands between them in a text"),
        ({"separator": ""}, "separator must be a text"),
        ({"multi": ("genres", "genres")}, "multi names column 'genres' twice"),
        ({"multi": "genres"}, "give a list of column names"),
        ({"multi": ()}, "separator is set, but no column is named in multi"),
        ({"multi": (), "separator": None, "max_values": 3}, "max_values is set, but no column"),
        ({"max_values": 0}, "max_values must be at least 1"),
    ],
)
def test_options_that_cannot_be_meant(prepare, options, wrong):
    with pytest.raises(InputError, match=wrong):
        prepare(draw(), **options)


def test_a_field_that_others_name_too_stands_where_they_name_it(prepare):
    prepared = prepare(draw(), categorical=("genres", "user"))
    assert prepared.fields.names == ("genres", "user") and prepared.fields.slots == (5, 1)
    assert prepare(draw(), categorical=()).fields.names == ("genres",)


@pytest.mark.parametrize("many", [1, 100])
def test_what_is_cut_in_new_rows_is_told(prepare, many):
    prepared = prepare(draw(), max_values=2)
    rows = {"user": ["u1"] * many, "genres": [["war", "sci", "art"]] * many}
    with pytest.warns(CutValues, match=r"'genres': of cells with more than max_values=2"):
        ids = prepared.encode(rows)
    names = [prepared.vocabulary.raw(row).value for row in ids[0].tolist()]
    assert names == ["u1", "war", "sci"]


def test_cells_may_have_more_values_than_any_before(prepare):
    rows = [(user, cell[:2], label) for user, cell, label in draw()]
    prepared = prepare(rows)
    ids = encoder_of(prepared).encode({"user": ["u1"], "genres": ["war|sci|art|doc"]})
    assert (ids[0, 1:5] < prepared.fields.num_features).all()
    assert Cells("|", 16).values("war|sci|art|doc") == ["war", "sci", "art", "doc"]


WEIGHTED_CELLS = [
    "a:0.5|b", "b:2|a:0.25", "a:1e-3", "", "b:0|c:3", "a:0.1|a:0.2", " c : .5 ||", "x:y:2|c",
]  # fmt: skip


def pairs_of(text):
    found = {}
    for part in filter(None, (part.strip() for part in text.split("|"))):
        value, _, weight = part.rpartition(":") if ":" in part else (part, "", "1")
        value = value.strip()
        found[value] = found.get(value, 0) + float(weight)
    return found


def write_weighted(path, cells, labels):
    pairs = [pairs_of(cell) for cell in cells]
    as_structs = [[{"value": v, "weight": w} for v, w in own.items()] for own in pairs]
    struct = pa.list_(pa.struct([("weight", pa.float64()), ("value", pa.string())]))
    if path.suffix == ".csv":
        lines = [f"{cell},{label}" for cell, label in zip(cells, labels, strict=True)]
        path.write_text("\n".join(["tags,click", *lines]) + "\n")
        return
    if path.suffix == ".jsonl":
        rows = [{"tags": own, "click": y} for own, y in zip(as_structs, labels, strict=True)]
        rows[1]["tags"] = pairs[1]
        rows[2]["tags"] = [[*pair] for pair in pairs[2].items()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    is_map = path.stem == "map"
    column = (
        pa.array([[*own.items()] for own in pairs], pa.map_(pa.string(), pa.float64()))
        if is_map
        else pa.array(as_structs, struct)
    )
    pq.write_table(pa.table({"tags": column, "click": labels}), path)


@pytest.mark.parametrize("name", ["text.csv", "structs.parquet", "map.parquet", "rows.jsonl"])
def test_weights_of_values_come_back(tmp_path, name):
    cells = WEIGHTED_CELLS * 20
    labels = [number * 7 % 5 // 3 for number in range(len(cells))]
    write_weighted(tmp_path / name, cells, labels)
    options = data.DataOptions(
        table_file=str(tmp_path / name), label="click", multi=("tags",), value_weights=("tags",),
        separator="|", max_values=2,
    )  # fmt: skip
    prepared = data.prepare("table", options, tmp_path / "out")
    assert prepared.fields.weighted == (True,) and prepared.fields.slots == (2,)
    found = collections.Counter()
    for split in SPLITS:
        columns, _ = prepared.arrays(split)
        ids, weights = columns[:, :2], columns[:, 2:].view(np.float32)
        assert (weights[ids == prepared.fields.num_features] == 0).all()
        for own, weighs in zip(ids.tolist(), weights.tolist(), strict=True):
            raw = [
                prepared.vocabulary.raw(i).value for i in own if i < prepared.fields.num_features
            ]
            found[frozenset(zip(raw, np.round(weighs, 6).tolist(), strict=False))] += 1
    expected = collections.Counter()
    for cell in cells:
        own = pairs_of(cell) or {None: 1.0}
        expected[frozenset((v, round(float(np.float32(w)), 6)) for v, w in own.items())] += 1
    rounded = collections.Counter()
    for cell, count in found.items():
        rounded[frozenset((v, round(float(np.float32(w)), 6)) for v, w in cell)] += count
    assert rounded == expected
    (batch,) = data.Reader(prepared, "validation", 32, remainder="pad", shuffle=False).epoch(0)
    padding = batch.ids[batch.weights == 0]
    assert len(padding) and (padding == prepared.fields.oov_example).all()
    assert padding[0, 2:].view(np.float32).tolist() == [1, 0]
    again = data.load(prepared.path)
    assert again.fields == prepared.fields
    encoded = again.encode({"tags": ["b:2|a:0.25", None]})
    assert encoded[:, 2:].view(np.float32).tolist() == [[2, 0.25], [1, 0]]


@pytest.mark.parametrize("bad", ["a:-1", "a:", "a:nan", "a:b", ":1", "a:1e-13", "a: +1"])
@pytest.mark.parametrize("name", ["text.csv", "rows.jsonl"])
def test_weights_of_values_that_cannot_be_used_are_refused(tmp_path, bad, name):
    cells = ["a:1|b:2"] * 50
    labels = [0, 1] * 25
    write_weighted(tmp_path / name, cells, labels)
    lines = (tmp_path / name).read_text().splitlines()
    at = 3 if name == "text.csv" else 2
    lines[at] = f"{bad},1" if name == "text.csv" else json.dumps({"tags": [bad], "click": 1})
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    options = {"label": "click", "multi": ("tags",), "separator": "|", "min_count": 1}
    weighted = data.DataOptions(table_file=str(tmp_path / name), value_weights=("tags",), **options)
    with pytest.raises(InputError, match=rf"{name}.*line {at + 1}.*column 'tags' is .*:0.5"):
        data.prepare("table", weighted, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("prepared.json"))
    set_aside = dataclasses.replace(weighted, max_bad_rows=1)
    prepared = data.prepare("table", set_aside, tmp_path / "out")
    assert prepared.rejected == 1 and sum(prepared.num_rows.values()) == 49


def test_weights_of_values_need_cells_of_several(tmp_path):
    write_weighted(tmp_path / "t.csv", ["a"] * 9, [0, 1, 1] * 3)
    options = data.DataOptions(
        label="click",
        table_file=str(tmp_path / "t.csv"),
        categorical=("tags",),
        value_weights=("tags",),
    )
    with pytest.raises(InputError, match="'tags' is named in value_weights and not in multi"):
        data.prepare("table", options, "nowhere")


@pytest.mark.parametrize(("separator", "cells"), [
    ("; ", {"b; ": "b", "a; ": "a", "a; b; ": "ab", " a": "a", "; ": "", "  ": ""}),
    (" ;", {" ;b": "b", "a ;b": "ab", " ;": "", "b ": "b"}),
    (" ", {"a ": "a", " b a  ": "ab", " ": ""}),
])  # fmt: skip
def test_a_separator_that_ends_in_a_blank_ends_a_cell(tmp_path, separator, cells):
    path = tmp_path / "clicks.csv"
    lines = [f"{number % 2},u,{cell}" for cell in cells for number in range(40)]
    path.write_text("\n".join(["click,user,genres", *lines]) + "\n")
    options = data.DataOptions(
        table_file=str(path),
        label="click",
        categorical=("user",),
        multi=("genres",),
        separator=separator,
    )
    prepared = data.prepare("table", options, tmp_path / "out")
    encoder, nothing = encoder_of(prepared), prepared.fields.num_features
    place = {value: prepared.vocabulary.id("genres", value) for value in ("a", "b", None)}
    expected = [[place[value] for value in values or [None]] for values in cells.values()]
    own = range(prepared.fields.offsets[1] + 1, nothing)
    known = {prepared.vocabulary.raw(row).value for row in own}
    assert known == {value for values in cells.values() for value in values or [None]}
    source = source_of(RawFile(path), encoder.sources, FOUND, cells=encoder.cells)
    served = [encoder.encode_rows(source.read(block)) for block in source.blocks()]
    found = np.sort(np.concatenate(served)[:, 1:], axis=1)[::40]
    assert [sorted(set(row) - {nothing}) for row in found.tolist()] == list(map(sorted, expected))
    stored = [prepared.arrays(split)[0][:, 1:] for split in SPLITS]
    stored = np.concatenate(stored)
    stored = collections.Counter(frozenset(row) - {nothing} for row in stored.tolist())
    every = collections.Counter()
    for row in expected:
        every[frozenset(row)] += 40
    assert stored == every
    for count in (1, 100):  # value by value, and by whole columns
        ids = encoder.encode({"user": ["u"] * count * len(cells), "genres": [*cells] * count})
        rows = [sorted(set(row) - {nothing}) for row in ids[-len(cells) :, 1:].tolist()]
        assert rows == list(map(sorted, expected))
