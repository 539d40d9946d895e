"""The command as a person runs it."""

import subprocess
import sys

import pytest

from experiments import prepare_data
from optembed_jax import data


def run(*flags):
    command = [sys.executable, "-m", "experiments.prepare_data", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_tells_what_it_made_and_where_it_is(tmp_path):
    table = tmp_path / "t.csv"
    rows = [f"{i % 2},a{i % 5},{i}" for i in range(400)]
    table.write_text("y,c,x\n" + "\n".join([*rows, "7,bad,row"]) + "\n")
    flags = [f"--table_file={table}", "--label=y", "--categorical=c", "--numeric=x"]
    flags += ["--dataset=table", f"--data_dir={tmp_path / 'out'}"]
    refused = run(*flags)
    assert refused.returncode == 2 and not (tmp_path / "out").exists()
    assert (
        refused.stderr.strip()
        .splitlines()[-1]
        .startswith(f"error: {table} line 402: column 'y' is '7', expected 0 or 1")
    )
    assert "Traceback" not in refused.stderr
    made = run(*flags, "--max_bad_rows=1")
    assert made.returncode == 0, made.stderr
    assert "train                320 rows, 0.5" in made.stdout
    assert "1 unusable rows set aside in rejects.csv" in made.stdout
    assert "data: reading" in made.stderr and "rows/s" in made.stderr


def test_flags_of_a_run_are_taken_and_no_others(tmp_path):
    """One flagfile serves all mains; what nobody knows is refused before anything is done."""
    file = tmp_path / "a.flags"
    file.write_text("--dataset=synthetic\n--model=fnn\n--synthetic_rows=300\n--notensorboard\n")
    flags = ["--latent_dim", "4", f"--flagfile={file}", f"--data_dir={tmp_path / 'out'}"]
    for wrong, said in [
        ("--no_such_flag=1", "Unknown command line flag 'no_such_flag'"),
        ("--latent_dim=many", "--latent_dim"),
        ("--lr=nan", "flag --lr=nan: a number is needed"),
        ("--rent=1", "--rent is called --group_lasso now"),
        ("stray", "'stray' is not a flag"),
    ]:
        refused = run(*flags, wrong)
        assert refused.returncode == 2 and not (tmp_path / "out").exists()
        (line,) = refused.stderr.splitlines()
        assert line.startswith("error: ") and said in line
    made = run(*flags, "--synthetic_rows=400")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("synthetic: ") and "320 rows" in made.stdout


def test_help_is_of_its_own_flags():
    said = run("--help").stdout
    assert "--engine:" in said and "--table_file:" in said and "--latent_dim" not in said


def test_sigterm_is_no_success(tmp_path):
    flags = ["--dataset=synthetic", "--synthetic_rows=1000000", f"--data_dir={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "experiments.prepare_data", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "rows/s" in line:
                break
        process.terminate()
        said = process.communicate()[1]
    assert process.returncode == 143, said
    last = "stopped by SIGTERM before its end: start it anew: it may have written nothing"
    assert said.splitlines()[-1] == last and "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("data_dir", "message"),
    [
        ("gs://bucket/data", "--data_dir=gs://bucket/data: this is read from a file system only"),
        ("~no_such_user/data", "no home folder is known of ~no_such_user"),
        ("", "--data_dir is empty; name a path"),
        (" ", "--data_dir is empty; name a path"),
    ],
)
def test_a_data_dir_that_cannot_be_is_told(
    command, capsys, tmp_path, monkeypatch, data_dir, message
):
    monkeypatch.chdir(tmp_path)
    assert command(prepare_data.main, data_dir=data_dir) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.fixture
def prepared(tmp_path):
    return data.prepare("synthetic", data.DataOptions(synthetic_rows=1_000), tmp_path)


def test_describe(prepared):
    text = prepare_data.describe(prepared)
    assert str(prepared.path) in text and f"{prepared.fields.num_features:,} features" in text
    assert all(name in text for name in prepared.fields.names)


def test_new_values_of_later_files_are_told(tmp_path):
    def write(name, users):
        rows = [f"{i % 2},{users[i % len(users)]},s{i % 3}" for i in range(600)]
        (tmp_path / name).write_text("y,user,site\n" + "\n".join(rows) + "\n")
        return tmp_path / name

    old, new = [f"u{n}" for n in range(9)], [f"v{n}" for n in range(9)]
    train = write("train.csv", old)
    for number, (users, told) in enumerate([(old, False), (new, True)]):
        options = data.DataOptions(
            train_file=str(train),
            validation_file=str(write(f"v{number}.csv", users)),
            test_file=str(write(f"t{number}.csv", old)),
            label="y",
            categorical=("user", "site"),
        )
        prepared = data.prepare("table", options, tmp_path / "out")
        assert prepared.unseen["validation"] == {"user": 600 * told, "site": 0}
        lines = [line for line in prepare_data.describe(prepared).splitlines() if "warning" in line]
        assert len(lines) == told
        if told:
            assert "validation: field 'user': 600 of 600 rows (100.0%) have an unseen" in lines[0]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (["1.5", "1.50"], "1 of its values are written in two ways, such as '1.5' and '1.50'"),
        (["12", "12.0", "x"], "1 of its values are written in two ways, such as '12' and '12.0'"),
        (["True", "true", "x"], "1 of its values are written in two ways, such as 'true' and"),
        (["12", "12.0"], ""),
        (["True", "true"], ""),
        (["1.5", "12"], ""),
        (["a/b", "b/a"], "no cell holds more than one value; is separator='|' what stands"),
        (["a|b", "b/a"], ""),
    ],
)
def test_what_may_be_meant_otherwise_is_told(tmp_path, parts, said):
    for number, value in enumerate(parts):
        lines = [f"{row % 2},{value}" for row in range(60)]
        (tmp_path / f"{number}.csv").write_text("y,user\n" + "\n".join(lines) + "\n")
    multi = {"multi": ("user",), "separator": "|"} if "/" in parts[1] else {"categorical": ["user"]}
    options = data.DataOptions(table_file=str(tmp_path / "*.csv"), label="y", **multi)
    prepared = data.prepare("table", options, tmp_path / "out")
    notes = [line for line in prepare_data.describe(prepared).splitlines() if "note: " in line]
    assert len(notes) == bool(said) and all(f"field 'user': {said}" in note for note in notes)


FORMS = {
    "whole": str,
    "floats": lambda n: f"{n}.0",
    "quoted": lambda n: f'"{n}"',
    "two decimals": lambda n: f"{n}.00",
}


@pytest.mark.parametrize("train", FORMS)
@pytest.mark.parametrize("other", FORMS)
def test_files_that_write_integers_in_other_ways_have_the_same_ids(tmp_path, train, other):
    def write(name, form):
        rows = [f"{i % 2},{FORMS[form](i % 7) if i % 50 else ''},x" for i in range(300)]
        (tmp_path / name).write_text("y,user,site\n" + "\n".join(rows) + "\n")
        return str(tmp_path / name)

    options = data.DataOptions(
        train_file=write("train.csv", train),
        validation_file=write("validation.csv", other),
        test_file=write("test.csv", other),
        label="y",
        categorical=("user", "site"),
    )
    prepared = data.prepare("table", options, tmp_path / "out")
    assert prepared.unseen["validation"]["user"] == prepared.unseen["test"]["user"] == 0
    assert prepared.fields.sizes[0] == 1 + 7 + 1
    assert prepared.vocabulary.id("user", "3") == prepared.vocabulary.id("user", "3.0") > 0
