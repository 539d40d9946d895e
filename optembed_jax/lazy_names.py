"""Public names of a package, imported when one is asked for (PEP 562).

Our own lines, not a library's: those who serve without JAX have NumPy and safetensors alone.
"""

import importlib
import importlib.util
import threading
from collections.abc import Callable, Mapping
from typing import Any

# One for all packages. Flax's modules import each other in circles, and tensorflow_datasets puts a
# function of its own in the place of __import__ while it is imported: two threads that begin at two
# of them break either, for good, and still do by statements such as import optembed_jax.training,
# which know no lock of ours. What is imported within asks for no name in turn (a test sees to it),
# or two would wait for each other.
_lock = threading.RLock()


def asked_for(
    package: str, homes: Mapping[str, str], name: str, before: Callable[[str], None] | None = None
) -> Any:
    """A public name of a package, or a module below it.

    Args:
      package: its full name.
      homes: in which module below it each public name is.
      name: what is asked for.
      before: given the module, called before it is imported.

    Raises:
      AttributeError: there is no such name.
      ImportError: a package that is needed is not installed.
    """
    home = homes.get(name)
    module = f"{package}.{home or name}"
    if home is None and (
        name.startswith("_") or not name.isidentifier() or importlib.util.find_spec(module) is None
    ):
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    try:
        with _lock:
            if before is not None:
                before(home or name)
            found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{package}.{name} needs a package that is not installed: {error}; "
            "`pip install optembed-jax` installs all of them, and without them bundles are "
            "served by optembed_jax.numpy_bundle"
        ) from error
    return found if home is None else getattr(found, name)
