"""What a bundle can be written as: a target is a module of its own, and a line here."""

import dataclasses
import importlib
import pathlib
from collections.abc import Mapping

from optembed_jax.errors import InputError
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_manifest import why_no_plain_tables


@dataclasses.dataclass(frozen=True)
class Target:
    """Another form of a bundle.

    Attributes:
      name: of the format.
      module: has ``write(bundle, path, takes_ids) -> str``.
      extra: of this package, which installs what the module imports.
      is_folder: whether a folder is written, else a file.
    """

    name: str
    module: str
    extra: str
    is_folder: bool

    def write(self, bundle: Bundle, path: pathlib.Path, takes_ids: bool) -> str:
        """Write the bundle, whole or not at all; a line about what was written.

        Raises:
          InputError: the target's libraries are missing, the bundle needs what the target has not,
            or what was written does not give the bundle's logits.
        """
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            raise InputError(
                f"--format={self.name} needs the package {error.name}, which is not installed; "
                f"install the extra: pip install 'optembed-jax[{self.extra}]'"
            ) from error
        weighted = [f["name"] for f in bundle.manifest["fields"] if f.get("weighted", False)]
        if weighted:
            raise InputError(
                f"--format={self.name} has no weights of values, which field {weighted[0]!r} has "
                "(value_weights); serve the bundle itself, with JAX or with NumPy"
            )
        model = bundle.manifest["model"]["model"]
        if ":" in model:
            raise InputError(
                f"--format={self.name}: {model} is a backbone of its user's own, whose arithmetic "
                "is known to JAX alone; Bundle serves it"
            )
        reason = why_no_plain_tables(bundle.manifest)
        if reason is not None:
            raise InputError(
                f"--format={self.name} has no such tables: {reason}; serve the bundle itself, with "
                "JAX or with NumPy"
            )
        told: str = module.write(bundle, path, takes_ids)
        return told


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("onnx", "optembed_jax.targets.onnx_file", "onnx", is_folder=False),
        Target("torch", "optembed_jax.targets.torch_folder", "torch", is_folder=True),
    )
}


def target_of(name: str) -> Target:
    """A target by name.

    Raises:
      InputError: there is no such format; the message has the list.
    """
    if name not in TARGETS:
        raise InputError(f"--format is one of bundle, {', '.join(TARGETS)}, not {name!r}")
    return TARGETS[name]
