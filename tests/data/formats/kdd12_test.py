import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.errors import InputError


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    made = []
    for _ in range(300):
        impressions, *others = (int(v) for v in rng.zipf(1.6, 11))
        clicks = min(impressions, int(rng.choice([0, 0, 0, 1, 3])))
        made.append([clicks, impressions, *others])
    return made


def prepare(tmp_path, **options):
    options = data.DataOptions(**{"raw_dir": str(tmp_path), "min_count": 1, **options})
    return data.prepare("kdd12", options, tmp_path / "out")


def as_texts(columns):
    return [[None if v is None else str(v) for v in column] for column in columns]


@pytest.mark.parametrize("min_count", [1, 2])
def test_round_trip(tmp_path, write_table, rows, awkward, check_round_trip, min_count):
    rows = awkward(rows, 4)
    write_table(rows, "training.txt", "\t", "\r\n")
    prepared = prepare(tmp_path, min_count=min_count, weight="none")
    assert prepared.fields.num_fields == 11 and not prepared.is_weighted
    clicks, *columns = zip(*rows, strict=True)
    # A row with several clicks is one example with label 1.
    labels = [count > 0 for count in clicks]
    check_round_trip(prepared, as_texts(columns), ["categorical"] * 11, labels, min_count)


def test_a_row_is_as_many_examples_as_it_has_impressions(tmp_path, write_table, rows, decode):
    write_table(rows, "training.txt", "\t")
    prepared = prepare(tmp_path)
    assert prepared.fields.names[0] == "display_url" and prepared.fields.num_fields == 10
    expected = {}
    for clicks, impressions, *others in rows:
        for label, count in ((1.0, clicks), (0.0, impressions - clicks)):
            key = (*map(str, others), label)
            expected[key] = expected.get(key, 0) + count
    found = {}
    for split in prepared.num_rows:
        ids, labels = prepared.arrays(split)
        weights = prepared.weights_of(split)
        assert (weights > 0).all()
        assert np.average(labels, weights=weights) == pytest.approx(prepared.label_rate[split])
        for row, label, weight in zip(decode(prepared, ids), labels, weights, strict=True):
            found[(*row, float(label))] = found.get((*row, float(label)), 0) + float(weight)
    unseen = {key: count for key, count in found.items() if "<oov>" in key}
    found = {key: count for key, count in found.items() if key not in unseen}
    assert found == {key: count for key, count in expected.items() if count and key in found}
    assert sum(found.values()) + sum(unseen.values()) == sum(row[1] for row in rows)


@pytest.mark.parametrize("click", ["-1", "x", "", "1.5"])
def test_clicks_must_be_numbers(tmp_path, write_table, rows, click):
    rows[9][0] = click
    write_table(rows, "training.txt", "\t")
    with pytest.raises(InputError, match=r"line 10: .*expected a number of clicks"):
        prepare(tmp_path)


@pytest.mark.parametrize(
    ("impressions", "message"),
    [("x", "expected a number of impressions"), ("2", "at least as many as column 'click' says")],
)
def test_impressions_must_be_numbers_no_less_than_clicks(
    tmp_path, write_table, rows, impressions, message
):
    rows[9][:2] = [3, impressions]
    write_table(rows, "training.txt", "\t")
    with pytest.raises(InputError, match=rf"line 10: column 'impression' is .*{message}"):
        prepare(tmp_path)


def test_rows_never_shown_are_left_out(tmp_path, write_table, rows):
    rows[9][:2] = [0, 0]
    write_table(rows, "training.txt", "\t")
    assert prepare(tmp_path).weightless == 1


def test_no_other_weight(tmp_path, write_table, rows):
    write_table(rows, "training.txt", "\t")
    with pytest.raises(InputError, match=r"impression .* or none, not 'depth'"):
        prepare(tmp_path, weight="depth")


def test_no_time_to_split_by(tmp_path, write_table, rows):
    write_table(rows, "training.txt", "\t")
    with pytest.raises(InputError, match="no time column"):
        prepare(tmp_path, split="time")
