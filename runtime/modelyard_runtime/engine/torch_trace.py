"""Traces of a module that end with it.

``torch.jit.trace`` makes its classes in the one compilation unit of the process. That unit keeps
them, and with them every weight that freezing has made a constant, until the process ends: each
reload of a model would cost its size anew. A trace made here has a unit of its own, as what
``torch.jit.load`` reads has.

References:
    https://github.com/pytorch/pytorch/issues/35600 and 96726: what is kept, and why.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.jit._trace import TracerWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    Tensors = tuple[torch.Tensor, ...]

_TENSOR_TYPE: Final = re.compile(r"\b[A-Z]\w*\([^()]*\)")
"""How a trace writes the type of a tensor: ``Float(2, 4, strides=[4, 1], …)``."""


def trace(module: torch.nn.Module, unlike: Sequence[Tensors]) -> Any:
    """Record what a module does, if that is the same whatever it is given.

    Args:
        module: Takes tensors, returns a tuple of them. Its weights are shared, not copied.
        unlike: One or more inputs: they differ in every axis that may vary.

    Returns:
        The first input's trace, a ``ScriptModule``.

    Raises:
        ValueError: What it does depends on the values or the sizes of its input.
        RuntimeError: Whatever torch raises for a module that it cannot trace.
    """
    # Recorded and not raised: the tracer goes on with an error set, and breaks the module.
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        traces = [_record(module, inputs) for inputs in unlike]
    if any(issubclass(warning.category, TracerWarning) for warning in told):
        raise ValueError("a trace holds a value that the module looks at")
    # Kernels that are given a state of another batch's size write beyond its end, so a trace that
    # has fixed a size must not even be tried.
    if len({_form(each) for each in traces}) > 1:
        raise ValueError("a trace holds one size for all")
    return traces[0]


def _record(module: torch.nn.Module, inputs: Tensors) -> Any:
    """Do what ``torch.jit.trace`` does, in a unit that nobody else holds."""
    kinds, unit = torch._C, torch._C.CompilationUnit()  # noqa: SLF001 - no public call takes a unit
    made: Any = kinds.ScriptModule("Trace", unit, False)  # type: ignore[call-arg]
    made._register_attribute("training", kinds.BoolType.get(), False)  # noqa: SLF001
    for at, weight in enumerate((*module.parameters(), *module.buffers())):
        made._register_attribute(f"weight_{at}", kinds.TensorType.get(), weight)  # noqa: SLF001
    scripts = [each for each in module.modules() if isinstance(each, torch.jit.ScriptModule)]
    for at, script in enumerate(scripts):
        made._register_attribute(f"script_{at}", script._c._type(), script._c)  # noqa: SLF001
    made._create_method_from_trace("forward", module, inputs, _unnamed, True, False, [], False)  # noqa: SLF001
    return torch.jit._recursive.wrap_cpp_module(made)  # type: ignore[no-untyped-call] # noqa: SLF001


def _unnamed(_value: torch.Tensor) -> str:
    return ""


def _form(recorded: Any) -> str:
    """Write a trace down without the sizes that tensors happened to have, but with its constants."""
    return "\n".join(
        line if "prim::Constant" in line else _TENSOR_TYPE.sub("Tensor", line)
        for line in str(recorded.inlined_graph).splitlines()
    )
