import pytest

from experiments.benchmarks import runs_file
from optembed_jax.errors import InputError

KEY = ("data", "seed")


def test_finished_runs_are_kept_and_a_cut_line_is_not(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert runs_file.read(path, KEY) == []
    first, second = ({"data": "a", "seed": seed, "auc": 0.5} for seed in (0, 1))
    assert list(runs_file.append(path, [first])) == [first]
    with path.open("a") as file:
        file.write('{"data": "a", "se')  # Killed while it wrote.
    assert runs_file.read(path, KEY) == [first]
    assert list(runs_file.append(path, [second])) == [second]
    assert runs_file.read(path, KEY) == [first, second]


def test_each_run_is_in_the_file_before_the_next_one_begins(tmp_path):
    path = tmp_path / "runs.jsonl"
    records = [{"data": "a", "seed": seed} for seed in range(3)]
    for number, _ in enumerate(runs_file.append(path, iter(records)), 1):
        assert runs_file.read(path, KEY) == records[:number]


def test_only_what_is_missing_is_run(tmp_path, capsys):
    path = tmp_path / "runs.jsonl"
    begun = []

    def missing(finished):
        for seed in range(3):
            if ("a", seed) not in finished:
                begun.append(seed)
                if begun == [0, 1]:
                    raise KeyboardInterrupt
                yield {"data": "a", "seed": seed}

    def complete(file):
        return runs_file.complete(file, KEY, missing, lambda record: f"seed {record['seed']}")

    with pytest.raises(KeyboardInterrupt):
        complete(str(path))
    assert complete(str(path)) == [{"data": "a", "seed": seed} for seed in range(3)]
    assert begun == [0, 1, 1, 2]
    assert [line[:6] for line in capsys.readouterr().out.splitlines()] == [
        f"seed {seed}" for seed in range(3)
    ]
    with pytest.raises(InputError, match="--runs=FILE"):
        complete(None)


@pytest.mark.parametrize("line", ["no json", "[1]", '{"data": "a"}', "3"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"data": "a", "seed": 0}\n' + line + "\n")
    with pytest.raises(InputError, match=r"runs\.jsonl, line 2: not a finished run"):
        runs_file.read(path, KEY)


def test_runs_lie_beside_the_figures_unless_they_are_told_where(tmp_path):
    assert runs_file.path_of(None, "some/figures.json").as_posix() == "some/figures.jsonl"
    assert runs_file.path_of("other.jsonl", "figures.json").as_posix() == "other.jsonl"
    assert runs_file.path_of("other.jsonl", None).as_posix() == "other.jsonl"
    with pytest.raises(InputError, match=r"--json=FILE\.json"):
        runs_file.path_of(None, None)
    for runs, figures in ((None, "a.jsonl"), ("a.json", "a.json")):
        with pytest.raises(InputError, match="give --json another name"):
            runs_file.path_of(runs, figures)
