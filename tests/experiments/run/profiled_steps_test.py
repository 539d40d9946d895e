import gzip
import json

import jax
import jax.numpy as jnp
import pytest
from etils.epath import Path

from experiments.run.profiled_steps import steps_of, traced
from optembed_jax.errors import InputError


def test_steps_are_named_by_the_first_and_the_last():
    assert steps_of(None) is None
    assert steps_of("1:1") == range(1, 2) and steps_of("10:20") == range(10, 21)


@pytest.mark.parametrize("text", ["", "3", "0:2", "5:4", "a:b", "1:2:3", "-1:2", "1.5:2"])
def test_anything_else_is_refused(text):
    with pytest.raises(InputError, match="the first and the last step, such as 10:20, not"):
        steps_of(text)


@pytest.fixture
def step():
    """A step whose number is the name of the function that runs, as a trace shows it."""

    def run(number):
        named = jax.jit(jnp.sin, inline=False)
        with jax.profiler.TraceAnnotation(f"step number {number}"):
            return named(jnp.float32(number))

    return run


def names_in(folder):
    (trace,) = folder.rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    return {event["name"] for event in events if event.get("name", "").startswith("step number")}


@pytest.mark.parametrize(
    ("steps", "expected"), [("1:2", {1, 2}), ("3:3", {3}), ("4:9", {4, 5})], ids=str
)
def test_a_trace_holds_these_steps_and_no_others(tmp_path, step, steps, expected):
    said = []
    with traced(steps_of(steps), Path(tmp_path), said.append) as note:
        for number in range(1, 6):
            note(step(number))
    assert names_in(tmp_path / "profile") == {f"step number {number}" for number in expected}
    (line,) = said
    assert line.startswith(f"steps {min(expected)} to {max(expected)} are traced in")


def test_a_training_that_fails_or_ends_before_leaves_what_there_is(tmp_path, step):
    with (
        pytest.raises(ZeroDivisionError),
        traced(steps_of("1:9"), Path(tmp_path / "failed"), lambda line: None) as note,
    ):
        note(step(1))
        1 / 0  # noqa: B018
    assert names_in(tmp_path / "failed" / "profile") == {"step number 1"}
    for begins in (3, 2):
        said = []
        with traced(range(begins, 10), Path(tmp_path / "short"), said.append) as note:
            assert not (tmp_path / "short").exists()
            note(step(1))
        assert said == [f"no step is traced: there were 1, and profile_steps begins at {begins}"]
    with traced(None, Path(tmp_path / "none"), lambda line: None) as note:
        note(step(1))
    assert not (tmp_path / "none").exists()


def test_a_bucket_is_refused_before_anything_is_traced():
    with (
        pytest.raises(InputError, match="profile_steps needs a --workdir in a file system"),
        traced(range(1, 3), Path("gs://bucket/run"), lambda line: None),
    ):
        pytest.fail("it began")
