"""With which packages something was made, for the records that are kept of it."""

import importlib.metadata

from optembed_jax import __version__


def versions(*packages: str) -> dict[str, str]:
    """The versions of this package and of others, by their names on the package index.

    Of this one it is its own word: from a clone on the path it runs without being installed.

    Raises:
      PackageNotFoundError: another one is not installed.
    """
    others = {package: importlib.metadata.version(package) for package in packages}
    return {"optembed-jax": __version__, **others}
