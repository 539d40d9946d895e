"""What a program asks of an accelerator, read from what it is lowered to: no device is needed.

Counted are operations before XLA fuses them, so they bound kernels from below where each is one of
its own (gathers, scatters, sorts, products), and say nothing of what is computed number by number.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

KERNELS = ("gather", "scatter", "sort", "dot_general", "reduce", "custom_call")
"""Operations that are a kernel of their own, or the most of one."""

_EXACT = frozenset({"add", "minimum", "maximum", "and", "or", "xor", "multiply"})


@dataclasses.dataclass(frozen=True)
class Scatter:
    """A scatter.

    Attributes:
      combines: what a number does to the one that is there: ``add``, ``minimum``, ... or ``set``.
      dtype: of the numbers.
      shape: of what is written.
      is_unique: whether no two writes go to one place.
      is_sorted: whether places rise.
    """

    combines: str
    dtype: str
    shape: tuple[int, ...]
    is_unique: bool
    is_sorted: bool

    @property
    def is_ordered(self) -> bool:
        """Whether what comes out does not depend on the order of the writes.

        Of several writes to one place: whole numbers are summed exactly and the least or largest is
        the same in any order; floats are rounded in each sum, and which plain write comes last is
        arbitrary.
        """
        is_whole = not self.dtype.startswith(("f", "bf"))
        exact = self.combines in _EXACT and (is_whole or self.combines in ("minimum", "maximum"))
        return self.is_unique or exact


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a program consists of.

    Attributes:
      operations: how often each of ``KERNELS`` occurs, and ``while`` and ``case``, for which the
        host may be asked; of a loop its body once, of a branch all its ways.
      scatters: each of them.
      moved_bytes: read by gathers and written by scatters; of a loop once.
      argument_bytes, result_bytes: of the program.
    """

    operations: dict[str, int]
    scatters: tuple[Scatter, ...]
    moved_bytes: int
    argument_bytes: int
    result_bytes: int

    @property
    def unordered(self) -> tuple[Scatter, ...]:
        """Scatters whose outcome can depend on the order of their writes."""
        return tuple(scatter for scatter in self.scatters if not scatter.is_ordered)

    def as_record(self) -> dict[str, Any]:
        """The figures as JSON has them."""
        return {
            **self.operations,
            "unordered": [f"{s.combines} {s.dtype}{list(s.shape)}" for s in self.unordered],
            "moved_bytes": self.moved_bytes,
            "argument_bytes": self.argument_bytes,
            "result_bytes": self.result_bytes,
        }


def counted(function: Callable[..., Any], *arguments: Any, platform: str = "cuda") -> Counts:
    """Lower a function for a platform, and count.

    Args:
      function: to be jitted, or jitted already.
      arguments: arrays, or their shapes (``jax.ShapeDtypeStruct``).
      platform: as JAX names it.
    """
    jitted: Any = function if hasattr(function, "trace") else jax.jit(function)
    lowered = jitted.trace(*arguments).lower(lowering_platforms=(platform,))
    return counts_of(lowered.compiler_ir("stablehlo"))


def counts_of(module: Any) -> Counts:
    """Count a StableHLO module; what is called several times counts so often."""
    functions = {op.attributes["sym_name"].value: op for op in _inner(module.operation)}
    main = functions["main"]
    scatters: list[Scatter] = []
    operations: Counter[str] = Counter(dict.fromkeys((*KERNELS, "while", "case"), 0))
    moved = 0
    for operation in _called(main, functions):
        name = operation.name.removeprefix("stablehlo.")
        if name not in operations:
            continue
        operations[name] += 1
        if name == "gather":
            moved += _bytes(operation.results[0].type)
        if name == "scatter":
            scatters += _scatters(operation)
            arrays = len(operation.results)
            moved += sum(_bytes(update.type) for update in list(operation.operands)[-arrays:])
    signature = main.attributes["function_type"].value
    return Counts(
        operations=dict(operations),
        scatters=tuple(scatters),
        moved_bytes=moved,
        argument_bytes=sum(map(_bytes, signature.inputs)),
        result_bytes=sum(map(_bytes, signature.results)),
    )


def _inner(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        for block in region:
            for inner in block:
                yield inner.operation


def _called(operation: Any, functions: dict[str, Any]) -> Iterator[Any]:
    """All operations within one, and within what is called there."""
    for inner in _inner(operation):
        yield inner
        if inner.name in ("func.call", "call"):
            yield from _called(functions[inner.attributes["callee"].value], functions)
        # What combines two numbers is no operation on arrays.
        elif inner.name not in ("stablehlo.scatter", "stablehlo.reduce", "stablehlo.sort"):
            yield from _called(inner, functions)


def _scatters(operation: Any) -> list[Scatter]:
    """One for each array that is written."""

    def says(name: str) -> bool:
        return name in operation.attributes and bool(operation.attributes[name].value)

    body = [inner.name.removeprefix("stablehlo.") for inner in _inner(operation)]
    combines = body[0] if len(body) == 2 else "set" if len(body) == 1 else "+".join(body[:-1])
    arrays = len(operation.results)
    return [
        Scatter(
            combines,
            str(update.type.element_type),
            tuple(update.type.shape),
            says("unique_indices"),
            says("indices_are_sorted"),
        )
        for update in list(operation.operands)[-arrays:]
    ]


def _bytes(array: Any) -> int:
    bits = {"i1": 8}.get(str(array.element_type)) or array.element_type.width
    return int(np.prod(array.shape, dtype=np.int64)) * bits // 8
