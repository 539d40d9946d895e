import json
import subprocess
import sys

import pytest

from experiments.benchmarks import one_seed
from experiments.run.deterministic import OPTION

JOB = {"rows": 800, "steps": 3, "batch": 32, "dim": 4, "mlp_dims": [8]}


@pytest.fixture(scope="module")
def first():
    return one_seed.run(**JOB)


def test_the_same_job_leaves_the_same_bits_and_another_one_others(first):
    def digests(found):
        return [found[update]["digest"] for update in ("sparse", "dense")]

    assert digests(one_seed.run(**JOB)) == digests(first)
    longer = digests(one_seed.run(**JOB | {"steps": 4}))
    assert not set(longer) & set(digests(first))
    assert all(own["ms"] > 0 for own in first.values())


@pytest.mark.parametrize("ordered", [False, True])
def test_two_processes_are_compared(first, monkeypatch, ordered):
    other = {**first, "dense": {"digest": "another", "ms": 0.5}}
    answers, lines, given = [first, other], [], []

    def run(line, env, **options):
        lines.append(line)
        given.append(env.get("XLA_FLAGS", "").split())
        return subprocess.CompletedProcess(line, 0, json.dumps(answers.pop(0)))

    monkeypatch.setattr(one_seed.subprocess, "run", run)
    monkeypatch.setattr(one_seed, "is_known", lambda option: option == OPTION)
    found = one_seed.compare(JOB, ordered)
    assert found["sparse"] == {"same_bits": True, "ms": first["sparse"]["ms"]}
    assert found["dense"] == {"same_bits": False, "ms": min(first["dense"]["ms"], 0.5)}
    assert [f"{OPTION}=true" in words for words in given] == [ordered] * 2
    module = [sys.executable, "-m", "experiments.benchmarks.one_seed"]
    assert lines == [[*module, json.dumps(JOB)]] * 2


def test_a_jaxlib_without_the_option_is_told(monkeypatch):
    monkeypatch.setattr(one_seed, "is_known", lambda option: False)
    assert one_seed.compare(JOB, ordered=True) == {"unknown_option": OPTION}
