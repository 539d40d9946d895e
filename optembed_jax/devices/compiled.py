"""A step compiled for the default device, with what XLA is asked for beyond its defaults.

XLA's CPU compiler hands products of matrices and sums over an axis to YNNPACK (jaxlib 0.10 and
later). At the sizes of click models its products are about as quick as XLA's own, and quicker where
they are many small ones; its sums are slower, and a step has many. So here it gets products alone
(docs/row_update.md, "The network, when it is small").
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

_CPU = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def compiled(
    function: Callable[..., Any], donate_argnums: int | tuple[int, ...] = ()
) -> Callable[..., Any]:
    """A function of arrays, jitted; called within another's trace it is compiled as that one is.

    Args:
      function: pure.
      donate_argnums: whose buffers are used again, as of ``jax.jit``.
    """
    jitted = functools.partial(jax.jit, function, donate_argnums=donate_argnums)
    alone, within = jitted(compiler_options=compile_options()), jitted()

    def call(*arguments: Any) -> Any:
        try:
            return alone(*arguments)
        except ValueError:  # JAX takes options at the top alone; looking first costs each step.
            if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
                raise
            return within(*arguments)

    return call


def compile_options() -> dict[str, str] | None:
    """Of ``jax.jit``, for the default backend; None where there are none."""
    return dict(_CPU) if jax.default_backend() == "cpu" and are_known(tuple(_CPU.items())) else None


@functools.cache
def are_known(options: tuple[tuple[str, str], ...]) -> bool:
    """Whether this jaxlib compiles with options, pairs of a name and a value.

    It is asked: they are experimental, come and go, and an unknown one is an error (as a flag in
    ``XLA_FLAGS`` it would end the process).
    """
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
