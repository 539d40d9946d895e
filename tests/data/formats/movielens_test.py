import dataclasses
import datetime
import gzip
import json

import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.data.encoder import read_encoder
from optembed_jax.data.prepared import encoder_of
from optembed_jax.data.splits import SPLITS
from optembed_jax.errors import InputError
from optembed_jax.values.lookup_tables import read_tables, write_tables

MOVIES = {
    "1": ("Toy Story (1995)", "Animation|Comedy"),
    "2": ("2001: A Space Odyssey (1968)", "Sci-Fi"),
    "3": ("No Year", "(no genres listed)"),
    "4": ('Quoted, "The" (1999)', "Drama"),
}
DERIVED = {
    "1": ("Animation|Comedy", "Animation", "1995"),
    "2": ("Sci-Fi", "Sci-Fi", "1968"),
    "3": (None, None, None),
    "4": ("Drama", "Drama", "1999"),
}


@pytest.fixture
def ratings():
    rng = np.random.default_rng(0)
    return [
        (str(rng.integers(1, 20)), str(rng.integers(1, 5)), str(rng.choice(whole)), str(second))
        for whole in [np.array(["0.5", "3.0", "3.5", "4.0", "5.0"])]
        for second in rng.integers(9e8, 1e9, 400)
    ]


def write_csv(folder, ratings):
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n" + "".join(",".join(r) + "\n" for r in ratings)
    )
    quoted = {m: '"' + title.replace('"', '""') + '"' for m, (title, _) in MOVIES.items()}
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n" + "".join(f"{m},{quoted[m]},{MOVIES[m][1]}\n" for m in MOVIES)
    )


def write_dat(folder, ratings):
    (folder / "ratings.dat").write_text("".join("::".join(r) + "\n" for r in ratings))
    text = (
        "".join(f"{m}::{t}::{g}\n" for m, (t, g) in MOVIES.items()) + "9::Caf\xe9 (1990)::Drama\n"
    )
    (folder / "movies.dat").write_bytes(text.encode("latin-1"))
    (folder / "users.dat").write_text(
        "".join(f"{u}::{'FM'[u % 2]}::{u % 7}::{u % 3}::{u:05d}\n" for u in range(1, 20))
    )


def expected_rows(ratings, with_users):
    for user, movie, rating, second in ratings:
        time = datetime.datetime.fromtimestamp(int(second), datetime.UTC)
        parts = (time.year, time.month, time.isoweekday(), time.hour)
        row = (user, movie, *DERIVED[movie], *map(str, parts))
        if with_users:
            u = int(user or 0)
            known = ("FM"[u % 2], str(u % 7), str(u % 3), f"{u:05d}")
            row += known if 1 <= u < 20 else (None,) * 4
        yield (*row, float(float(rating) >= 4))


def prepare(tmp_path, folder=None, **options):
    options = data.DataOptions(raw_dir=str(folder or tmp_path), **options)
    return data.prepare("movielens", options, tmp_path / "out")


@pytest.mark.parametrize("min_count", [1, 2])
@pytest.mark.parametrize("layout", ["csv", "dat"])
def test_both_layouts(tmp_path, ratings, check_round_trip, layout, min_count):
    for number, user in ((3, ""), (4, ""), (5, "-5"), (6, "-5"), (7, str(10**30)), (8, "987")):
        ratings[number] = (user, *ratings[number][1:])
    ratings += ratings[:7]
    (write_csv if layout == "csv" else write_dat)(tmp_path, ratings)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    prepared = prepare(tmp_path, min_count=min_count, multi=())
    assert prepared.fields.num_fields == (9 if layout == "csv" else 13)
    *columns, labels = zip(*expected_rows(ratings, layout == "dat"), strict=True)
    columns[0] = [user or None for user in columns[0]]
    kinds = ["categorical"] * len(columns)
    check_round_trip(prepared, columns, kinds, labels, min_count)


def test_new_rows_need_no_raw_files(tmp_path, ratings, decode):
    write_csv(tmp_path, ratings)
    folder = prepare(tmp_path, min_count=1, vocab_from="all", multi=()).path
    (tmp_path / "movies.csv").unlink()
    prepared = data.load(folder)
    rows = {"userId": [3], "movieId": [2], "timestamp": [int(ratings[0][3])]}
    assert decode(prepared, prepared.encode(rows))[0][2:5] == DERIVED["2"]


def test_genres_are_several_values(tmp_path, ratings):
    write_csv(tmp_path, ratings)
    prepared, single = prepare(tmp_path, min_count=1), prepare(tmp_path, min_count=1, multi=())
    assert prepared.options["multi"] == ["genres"] and "multi" not in single.options
    assert prepared.fields.slots == (1, 1, 2, 1, 1, 1, 1, 1, 1)
    genres, nothing = slice(2, 4), prepared.fields.num_features
    for split in SPLITS:
        (ids, labels), (own, same) = prepared.arrays(split), single.arrays(split)
        np.testing.assert_array_equal(labels, same)
        for bag, one in zip(ids[:, genres].tolist(), own[:, 2].tolist(), strict=True):
            raw = [prepared.vocabulary.raw(row).value for row in bag if row != nothing]
            combination = single.vocabulary.raw(one).value
            assert "|".join(value or "" for value in raw) == (combination or "")
    assert prepared.vocabulary.id("genres", "Comedy") != prepared.fields.offsets[2]
    rows = {"userId": [3] * 2, "movieId": [1, 3], "timestamp": [ratings[0][3]] * 2}
    for many in (1, 50):
        ids = prepared.encode({name: values * many for name, values in rows.items()})[-2:, genres]
        wanted = [prepared.vocabulary.id("genres", name) for name in ("Animation", "Comedy", None)]
        assert ids.tolist() == [wanted[:2], [wanted[2], nothing]]


def test_only_genres_are_several_values(tmp_path, ratings):
    write_csv(tmp_path, ratings)
    with pytest.raises(InputError, match="multi of movielens is genres or nothing"):
        prepare(tmp_path, multi=("movie",))
    with pytest.raises(InputError, match="separator is set, but data set 'movielens' does not"):
        prepare(tmp_path, multi=("genres",), separator="|")


def test_split_by_time(tmp_path, ratings):
    write_csv(tmp_path, ratings)
    prepared = prepare(tmp_path, split="time")
    assert prepared.num_rows == {"train": 320, "validation": 40, "test": 40}
    late = sorted(ratings, key=lambda r: int(r[3]))[-40:]
    assert prepared.label_rate["test"] == np.mean([float(r[2]) >= 4 for r in late])


@pytest.mark.parametrize("rating", ["7", "", "good", "nan"])
def test_bad_ratings(tmp_path, ratings, rating):
    ratings[0] = (*ratings[0][:2], rating, ratings[0][3])
    write_csv(tmp_path, ratings)
    with pytest.raises(InputError, match=r"ratings\.csv line 2: .*a rating from 0.5 to 5"):
        prepare(tmp_path)


@pytest.mark.parametrize("second", ["", "soon", "0x1f", "1.5", "9" * 30, "9" * 17])
def test_ratings_without_a_time(tmp_path, ratings, second):
    changed = [*ratings]
    changed[0] = (*ratings[0][:3], second)
    write_csv(tmp_path, changed)
    found = "empty" if not second else f"'{second}'"
    wanted = f"column 'timestamp' is {found}, expected seconds since 1970"
    for options in ({}, {"split": "time"}):
        with pytest.raises(InputError, match=rf"ratings\.csv line 2: {wanted}"):
            prepare(tmp_path, **options)
    write_csv(tmp_path, ratings)
    prepared = prepare(tmp_path)
    for rows in (2, 200):
        times = [int(ratings[0][3])] * (rows - 1) + [second]
        with pytest.raises(InputError, match=f"row {rows - 1}: {wanted}"):
            prepared.encode({"userId": [3] * rows, "movieId": [2] * rows, "timestamp": times})


def test_movies_belong_beside_the_ratings(tmp_path, ratings):
    write_csv(tmp_path, ratings)
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Toy Story (1995),A,B\n")
    with pytest.raises(InputError, match=r"movies\.csv line 2: 4 columns where 3 are expected"):
        prepare(tmp_path)
    (tmp_path / "movies.csv").unlink()
    with pytest.raises(InputError, match=r"movies\.csv does not exist"):
        prepare(tmp_path)


MOVIES_CSV = "movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n2,A (1968),Sci-Fi\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "genres,title,movieId\nDrama|War,Film (1951),1\n",
            r"movies\.csv line 1: the header should name the columns movieId, title, genres; the "
            "order differs",
        ),
        ("1,Toy Story (1995),Animation\n", r"movies\.csv line 1: .*'movieId' is missing"),
        ("", r"movies\.csv is empty"),
        ("movieId,title,genres\n", r"movies\.csv holds no rows"),
        (
            MOVIES_CSV.encode() + "3,Café (1990),Drama\n".encode("latin-1"),
            r"movies\.csv line 4: invalid UTF-8 \(byte 0xe9\) in column 'title'",
        ),
        (MOVIES_CSV.encode("utf-16"), r"movies\.csv is UTF-16 text"),
        (MOVIES_CSV + "\n3,B (1990),Drama\n", r"movies\.csv line 4: an empty line"),
    ],
)
def test_movies_that_cannot_be_read_are_told(tmp_path, ratings, content, message):
    write_csv(tmp_path, ratings)
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "movies.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepare(tmp_path)


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ("userId,movieId,rating,timestamp,device", "it has 'device' too much"),
        ("userId,movieId,rating,timestamp,rating", "it has 'rating' too much"),
        ("movieId,userId,rating,timestamp", "the order differs"),
        ("userId,movieId,stars,timestamp", "'rating' is missing"),
    ],
)
def test_a_header_of_other_columns_says_what_differs(tmp_path, ratings, header, detail):
    write_csv(tmp_path, ratings)
    path = tmp_path / "ratings.csv"
    path.write_text(path.read_text().replace("userId,movieId,rating,timestamp", header, 1))
    with pytest.raises(InputError, match=rf"ratings\.csv line 1: .*; {detail}$"):
        prepare(tmp_path)


LONG = "x" * 200_000


@pytest.mark.parametrize(
    "content",
    [
        MOVIES_CSV.encode(),
        b"\xef\xbb\xbf" + MOVIES_CSV.replace("\n", "\r\n").encode(),
        gzip.compress(MOVIES_CSV.encode()),
        (MOVIES_CSV + "\n\n").encode(),
        MOVIES_CSV.replace("Toy Story", "Toy\x85 Story\u2028").encode(),
        MOVIES_CSV.replace("Toy Story", LONG).encode(),
        MOVIES_CSV.replace("Toy Story (1995)", f'"{LONG}, é\n(1995)"').encode(),
    ],
    ids=["plain", "crlf", "gzip", "empty lines", "nel", "long", "quoted"],
)
def test_movies_are_read_as_ratings_are(tmp_path, ratings, decode, content):
    write_csv(tmp_path, ratings)
    (tmp_path / "movies.csv").write_bytes(content)
    prepared = prepare(tmp_path, min_count=1, multi=())
    derived = {"1": DERIVED["1"], "2": DERIVED["2"]}
    found = {row[1:5] for row in decode(prepared, prepared.arrays("train")[0])}
    known = {(movie, *derived.get(movie, (None,) * 3)) for movie in MOVIES}
    assert found == known


def test_movies_of_the_older_archives_are_lines_of_latin_1(tmp_path, ratings, decode):
    write_dat(tmp_path, ratings)
    path = tmp_path / "movies.dat"
    path.write_bytes(path.read_bytes().replace(b"Toy Story", b"Toy\x85Story \xe9") + b"\n")
    prepared = prepare(tmp_path, min_count=1, multi=())
    found = {row[1:5] for row in decode(prepared, prepared.arrays("train")[0])}
    assert found == {(movie, *DERIVED[movie]) for movie in MOVIES}


def test_the_real_small_data(tmp_path, movielens_dir, check_layout):
    check_layout(prepare(tmp_path, movielens_dir, multi=()))
    prepared = prepare(tmp_path, movielens_dir)
    assert prepared.fields.slots[2] == 10 and prepared.fields.sizes[2] == 2 + 19
    assert sum(prepared.num_rows.values()) == 100_836
    assert prepared.fields.sizes[0] == 1 + 610


def test_movies_that_changed_are_not_silently_reused(tmp_path, ratings):
    write_csv(tmp_path, ratings)
    before = prepare(tmp_path)
    movies = tmp_path / "movies.csv"
    movies.write_text(movies.read_text().replace("Sci-Fi", "Drama"))
    assert data.changed_file(before) == movies
    assert prepare(tmp_path).fingerprint != before.fingerprint


def read_fields(encoder):
    layout = encoder.vocabulary.layout
    return dataclasses.replace(layout, slots=encoder.slots)


@pytest.mark.parametrize("multi", [(), ("genres",)])
@pytest.mark.parametrize("layout", ["csv", "dat"])
def test_what_is_kept_of_a_vocabulary_reads_shorter_tables_alike(tmp_path, ratings, layout, multi):
    (write_csv if layout == "csv" else write_dat)(tmp_path, ratings)
    prepared = prepare(tmp_path, multi=multi, min_count=1)
    encoder, fields = encoder_of(prepared), prepared.fields
    draw = np.random.default_rng(0)
    raw = {
        "userId": [*(user for user, *_ in ratings[:60]), "77", None],
        "movieId": [*(movie for _, movie, *_ in ratings[:60]), "99", "3"],
        "timestamp": [second for *_, second in ratings[:62]],
    }
    full, looked_up = encoder.encode(raw), [f for f, c in enumerate(encoder.columns) if c.step]
    assert len(looked_up) >= 3
    for share in (0.0, 0.3, 0.6, 1.0):
        kept = draw.random(fields.num_features) < share
        small = encoder.keep(kept, prepared.counts, 1)
        kept[fields.oov_ids] = True
        place = np.append(np.cumsum(kept) - 1, kept.sum())  # behind all: no value in a slot
        known = np.append(kept, True)[full]
        stand_in = np.append(fields.oov_ids[fields.field_of_row], fields.num_features)
        expected = place[np.where(known, full, stand_in[full])]
        np.testing.assert_array_equal(small.encode(raw), expected)
        described, values, tables = small.written()
        assert b"Toy" not in described and b"Animation" not in described and tables is not None
        read = read_encoder(described, values, read_fields(small), tables)
        np.testing.assert_array_equal(read.encode(raw), expected)
        np.testing.assert_array_equal(read.rows.encode(raw), expected)
        with pytest.raises(InputError, match="it does not say how fields are made"):
            read_encoder(described, values, read_fields(small))
        # As bundles had them once.
        whole = json.loads(described)
        whole["facts"] |= {name: dict(table) for name, table in read_tables(tables).items()}
        again = read_encoder(json.dumps(whole).encode(), values, read_fields(small))
        np.testing.assert_array_equal(again.encode(raw), expected)
        more = write_tables({**read_tables(tables), "x": {"1": ("a",)}})
        with pytest.raises(InputError, match=r"its tables are .*, not .*'x'"):
            read_encoder(described, values, read_fields(small), more)
