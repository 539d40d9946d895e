import importlib.metadata

import numpy as np
import pytest

import optembed_jax
from optembed_jax.storage.versions import versions


def test_this_package_says_its_own_version_and_others_are_looked_up():
    assert versions() == {"optembed-jax": optembed_jax.__version__}
    assert versions("numpy")["numpy"] == np.__version__
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        versions("no-such-package")
