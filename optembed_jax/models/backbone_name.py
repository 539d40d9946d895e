"""Which backbones there can be: those of the library by name, and one's own.

One's own is a Flax module, Linen or NNX, and is used as it is (``own_backbone``): a class, a
``functools.partial`` of one, or an instance of a Linen module. By a text,
``package.module:Name``, it is imported only by :func:`imported`, for a person who named it. What a
file names, such as a bundle's manifest, is :class:`KnownByName` and never imported.
"""

import dataclasses
import functools
import importlib
import inspect
import re
from typing import Any

import flax.linen as nn
from flax import nnx

from optembed_jax.errors import InputError

GIVEN = ("latent_dim", "num_fields", "mlp_dims", "dropout", "cross_layers", "batch_axis", "dtype")
"""What a constructor is given, as far as it has parameters of these names."""


@dataclasses.dataclass(frozen=True)
class KnownByName:
    """A backbone of one's own of which a file has the name, and nobody the code.

    Attributes:
      name: as :func:`backbone_name` gave it.
      reads_linear: whether it reads the linear term.
    """

    name: str
    reads_linear: bool


def is_own(model: Any) -> bool:
    """Whether a backbone is one's own, not one of the library's names."""
    return not isinstance(model, str)


def class_of(model: Any) -> Any:
    """The class of a backbone of one's own."""
    if isinstance(model, functools.partial):
        return model.func
    return model if isinstance(model, type) else type(model)


def check_own(model: Any) -> None:
    """Refuse what is no backbone, or cannot be made from what a config has.

    Raises:
      InputError: see above; the message says what to give instead.
    """
    if isinstance(model, KnownByName):
        return
    kind, is_class = class_of(model), not isinstance(model, nn.Module)
    if isinstance(model, nnx.Module):
        raise InputError(
            f"model is an instance of {kind.__qualname__}, which has parameters already; give the "
            "class, or functools.partial of it"
        )
    if not isinstance(kind, type) or not issubclass(kind, nn.Module | nnx.Module):
        raise InputError(
            f"model must be the name of a backbone, or a Flax module (Linen or NNX), not {model!r}"
        )
    name = kind.__qualname__
    try:
        hash(model)
    except TypeError as error:
        raise InputError(
            f"backbone {name} cannot be told from others: its attributes have to be hashable, such "
            "as tuples in place of lists"
        ) from error
    _check_call(name, _call_of(kind))
    if not is_class:
        return
    parameters = _constructor_of(model)
    if missing := _lacks(parameters, {*GIVEN, "rngs"}):
        raise InputError(
            f"backbone {name} wants {missing!r}, which a model has not (it has "
            f"{', '.join(GIVEN)}): give it a default, or functools.partial of the class"
        )
    if isinstance(model, functools.partial):
        try:
            inspect.signature(kind.__init__).bind_partial(None, *model.args, **model.keywords)
        except TypeError as error:
            raise InputError(
                f"backbone {name} cannot be made of what it is given: {error}"
            ) from error
    if issubclass(kind, nnx.Module) and "rngs" not in parameters:
        raise InputError(f"backbone {name} has no parameter rngs, by which NNX makes its values")


def check_takes_dtype(model: Any, dtype: str) -> None:
    """Refuse a backbone of one's own that can not be told the dtype to compute in.

    Raises:
      InputError: it has no parameter ``dtype``, as Flax's own layers have.
    """
    if isinstance(model, KnownByName):
        return
    kind = class_of(model)
    if "dtype" not in inspect.signature(kind.__init__).parameters:
        raise InputError(
            f"compute_dtype={dtype} needs a backbone that is told so, and {kind.__qualname__} has "
            "no parameter dtype; give it one and pass it to its layers, or leave the flag out"
        )


def _check_call(name: str, parameters: dict[str, inspect.Parameter]) -> None:
    """Refuse a call that cannot be called as ``own_backbone`` does."""
    first, by_keyword = next(iter(parameters.values()), None), ("linear", "train", "weights")
    if first is None or first.name != "embedded" or first.kind is first.KEYWORD_ONLY:
        raise InputError(
            f"backbone {name} has no __call__(self, embedded, ...): embedded is float32 [B, F, D], "
            "and comes first"
        )
    if missing := _lacks(parameters, {"embedded", *by_keyword}):
        raise InputError(
            f"__call__ of backbone {name} wants {missing!r}; besides embedded it may ask for "
            f"{', '.join(by_keyword)}"
        )


def _lacks(parameters: dict[str, inspect.Parameter], given: set[str]) -> str | None:
    """The first parameter without a default that is not given."""
    for parameter in parameters.values():
        is_open = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not is_open and parameter.name not in given:
            return parameter.name
    return None


def options_of(model: Any, has: dict[str, Any]) -> dict[str, Any]:
    """What a constructor is given of what there is, by the names of its parameters.

    What is None is given where there is no default.
    """
    wanted = _constructor_of(model)
    return {
        name: value
        for name, value in has.items()
        if name in wanted and (value is not None or wanted[name].default is inspect.Parameter.empty)
    }


def asked_of(model: Any) -> frozenset[str]:
    """Names of what a backbone's call asks for: ``linear``, ``train``, ``weights``."""
    return frozenset(_call_of(class_of(model)))


def reads_linear(model: Any) -> bool:
    """Whether a backbone of one's own reads the linear term: its call has such a parameter."""
    if isinstance(model, KnownByName):
        return model.reads_linear
    return "linear" in asked_of(model)


def reads_products(model: Any) -> bool:
    """Whether a backbone of one's own says that it reads products of two fields alone, as FM does:
    its class has a true attribute ``reads_products``.
    """
    return bool(getattr(class_of(model), "reads_products", False))


def backbone_name(model: Any) -> str:
    """A backbone in one word: its name, or ``module:Class`` and what it was given."""
    if isinstance(model, str):
        return model
    if isinstance(model, KnownByName):
        return model.name
    kind = class_of(model)
    given: dict[str, Any] = {}
    if isinstance(model, functools.partial):
        given = model.keywords
    elif isinstance(model, nn.Module):
        given = {
            field.name: getattr(model, field.name)
            for field in dataclasses.fields(model)
            if field.name not in ("parent", "name")
        }
    told = ", ".join(f"{name}={_told(value)}" for name, value in given.items())
    return f"{kind.__module__}:{kind.__qualname__}" + (f"({told})" if told else "")


def _told(value: Any) -> str:
    """A value in a line that is the same in every process: a function by its name."""
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(value).split()))


def imported(name: str) -> Any:
    """The backbone that a person named as ``package.module:Name``; imports that module.

    It runs the module's code: never call it with a name that came out of a file.

    Raises:
      InputError: there is no such module, it does not import, or it has nothing of that name.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise InputError(f"{name!r} is no backbone; one's own is named package.module:ClassName")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(f"{name}: {module_name} does not import: {error}") from error
        raise InputError(
            f"{name}: there is no module {error.name!r}; it is looked for in the current folder, "
            "PYTHONPATH and what is installed"
        ) from error
    except Exception as error:  # Whatever a module of somebody else's does.
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{name}: {module_name} does not import: {said}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"{name}: {module_name} has nothing named {attribute!r}")
        found = getattr(found, part)
    check_own(found)
    return found


def _call_of(kind: Any) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(kind.__call__).parameters.items())[1:])


def _constructor_of(model: Any) -> dict[str, inspect.Parameter]:
    """Parameters that are still to be given, but for those that Linen gives each module."""
    # Not of the class: NNX's has a metaclass that hides them.
    parameters = list(inspect.signature(class_of(model).__init__).parameters.items())[1:]
    bound: dict[str, Any] = {}
    if isinstance(model, functools.partial):
        parameters, bound = parameters[len(model.args) :], model.keywords
    return {
        name: parameter
        for name, parameter in parameters
        if name not in bound and name not in ("parent", "name")
    }
