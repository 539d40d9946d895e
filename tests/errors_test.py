import pytest

from optembed_jax import errors
from optembed_jax.serving.bundle_format import BundleError

MESSAGE = "rows.csv, row 3: column 'age' is 'old', expected a number"


@pytest.mark.parametrize("name", ["InputError", "DivergedError", "CheckpointError", "Stopped"])
def test_the_message_is_what_a_person_reads(name):
    with pytest.raises(BaseException, match="column 'age'") as caught:
        raise getattr(errors, name)(MESSAGE)
    assert str(caught.value) == MESSAGE


def test_who_catches_what():
    """A notebook's ``except ValueError`` still catches wrong input, and what a bundle refuses."""
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(BundleError, errors.InputError)
    for failure in (errors.DivergedError, errors.CheckpointError):
        assert issubclass(failure, RuntimeError)
        assert not issubclass(failure, errors.InputError)


def test_a_stop_is_no_failure():
    def careful():
        try:
            raise errors.Stopped("saved in step 7")
        except Exception:
            return "taken for a failure"

    with pytest.raises(errors.Stopped, match="saved in step 7"):
        careful()
