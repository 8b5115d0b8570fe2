"""The JSON of an exported program → a module that runs its operators in order.

What is not understood is never guessed: ``torch.export.load`` reads it then.

References:
    ``torch/_export/serde/schema.py``, ``Graph`` and ``Argument``.
"""

from __future__ import annotations

import linecache
import operator
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch._export.serde import schema

from modelyard_runtime.engine.torch_archive import UnreadableProgramError, dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MEMORY_FORMATS: Final[Mapping[int, torch.memory_format]] = {
    schema.MemoryFormat.ContiguousFormat: torch.contiguous_format,
    schema.MemoryFormat.ChannelsLast: torch.channels_last,
    schema.MemoryFormat.ChannelsLast3d: torch.channels_last_3d,
    schema.MemoryFormat.PreserveFormat: torch.preserve_format,
}
_LAYOUTS: Final[Mapping[int, torch.layout]] = {schema.Layout.Strided: torch.strided}
_ON_INTEGERS: Final = frozenset(
    {"add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge"}
)
_METHODS: Final[Mapping[str, str]] = {
    "torch.ops.aten.sym_size.int": "size",
    "torch.ops.aten.view.default": "view",
    "torch.ops.aten.reshape.default": "reshape",
    "torch.ops.aten.expand.default": "expand",
}
"""Operators on sizes; through the methods a trace sees where a size comes from."""


@dataclass(slots=True)
class _Scope:
    """What the names of a graph stand for so far.

    Attributes:
        device: Where tensors that the graph makes are made.
        values: Name → node.
    """

    device: torch.device
    values: dict[str, Any] = field(default_factory=dict)

    def read(self, argument: Mapping[str, Any]) -> Any:
        """Turn an argument into what its operator is given."""
        ((kind, value),) = argument.items()
        if kind not in _READERS:
            raise UnreadableProgramError(f"an argument {kind!r}")
        return _READERS[kind](self, value)

    def named(self, value: Mapping[str, Any]) -> Any:
        return self.values[value["name"]]

    def optional(self, value: Mapping[str, Any]) -> Any:
        return self.named(value["as_tensor"]) if "as_tensor" in value else None

    def symbol(self, value: Mapping[str, Any]) -> Any:
        ((kind, inner),) = value.items()
        return self.values[inner] if kind == "as_name" else inner


_READERS: Final[Mapping[str, Callable[[_Scope, Any], Any]]] = {
    **dict.fromkeys(
        ("as_int", "as_ints", "as_string", "as_strings", "as_bool", "as_bools"),
        lambda _, value: value,
    ),
    "as_none": lambda _, __: None,
    "as_float": lambda _, number: float(number),  # infinity and NaN are words
    "as_floats": lambda _, numbers: [float(number) for number in numbers],
    "as_tensor": _Scope.named,
    "as_tensors": lambda scope, values: [scope.named(each) for each in values],
    "as_optional_tensor": _Scope.optional,
    "as_optional_tensors": lambda scope, values: [scope.optional(each) for each in values],
    "as_sym_int": _Scope.symbol,
    "as_sym_bool": _Scope.symbol,
    "as_sym_ints": lambda scope, values: [scope.symbol(each) for each in values],
    "as_scalar_type": lambda _, number: dtype_of(number),
    "as_memory_format": lambda _, number: _known(_MEMORY_FORMATS, number),
    "as_layout": lambda _, number: _known(_LAYOUTS, number),
    "as_device": lambda scope, _: scope.device,  # exported on another machine
}


def build_module(
    source: Mapping[str, Any], weights: Mapping[str, torch.Tensor], device: torch.device
) -> torch.nn.Module:
    """Build a module of a graph.

    Args:
        source: ``graph_module.graph`` of the program.
        weights: Name of a graph input → its tensor; the other inputs are the module's.
        device: Where tensors that the graph makes are made.

    Returns:
        It takes the graph's other inputs in order, and returns a tuple of tensors.

    Raises:
        UnreadableProgramError: The graph holds what is not understood here.
    """
    root = torch.nn.Module()
    graph, scope = torch.fx.Graph(), _Scope(device)
    for each in source["inputs"]:
        name = _tensor_name(each)
        if name in weights:
            root.register_parameter(name, _parameter(weights[name]))
            scope.values[name] = graph.get_attr(name)
        else:
            scope.values[name] = graph.placeholder(name)
    for node in source["nodes"]:
        _add(graph, scope, node)
    graph.output(tuple(scope.values[_tensor_name(each)] for each in source["outputs"]))
    module = torch.fx.GraphModule(root, graph)
    # Nothing changes the graph from here on, and without its way back to the module the weights go
    # with the last reference: a full collection may be far away.
    module.graph.owning_module = None
    weakref.finalize(module, _forget_source, module.forward.__code__.co_filename)
    return module.eval().to(device)


def _forget_source(name: str) -> None:
    """Take the code of a module that is gone out of what tracebacks are written with."""
    torch.fx.graph_module._loader.eval_cache.pop(name, None)  # noqa: SLF001 - it forgets nothing by itself
    linecache.cache.pop(name, None)


def _parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)


def _add(graph: torch.fx.Graph, scope: _Scope, node: Mapping[str, Any]) -> None:
    target = node["target"]
    arguments = {each["name"]: scope.read(each["arg"]) for each in node["inputs"]}
    values = tuple(arguments.values())
    if target in _METHODS and len(values) == 2:  # noqa: PLR2004 - the tensor and its sizes
        result = graph.call_method(_METHODS[target], values)
    elif target.startswith("_operator."):
        result = graph.call_function(_on_integers(target), values)
    else:
        function = _operator(target)
        result = graph.call_function(function, *_arranged(function, arguments))
    _keep(graph, scope, result, node["outputs"])


def _keep(
    graph: torch.fx.Graph, scope: _Scope, result: torch.fx.Node, outputs: Sequence[Any]
) -> None:
    if len(outputs) == 1 and "as_tensors" not in outputs[0]:
        scope.values[_result_name(outputs[0])] = result
        return
    if len(outputs) == 1:  # an operator that returns a list
        outputs = [{"as_tensor": each} for each in outputs[0]["as_tensors"]]
    for at, output in enumerate(outputs):
        part = graph.call_function(operator.getitem, (result, at))
        scope.values[_result_name(output)] = part


def _arranged(function: Any, arguments: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Pass by position what must be, and by name what has a default and may have been left out."""
    args, kwargs = [], {}
    for each in function._schema.arguments:  # noqa: SLF001 - the operator's own declaration
        if not each.has_default_value() and not each.kwarg_only:
            args.append(arguments.pop(each.name))
        elif each.name in arguments:
            kwargs[each.name] = arguments.pop(each.name)
    if arguments:
        raise UnreadableProgramError(f"{function} takes no {next(iter(arguments))!r}")
    return tuple(args), kwargs


def _operator(target: str) -> Any:
    """Find ``torch.ops.<library>.<name>.<overload>``; its library may not be in this process."""
    found: Any = torch.ops
    prefix, _, path = target.partition("torch.ops.")
    if prefix or path.startswith("higher_order."):
        raise UnreadableProgramError(f"the operator {target}")
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, torch._ops.OpOverload):  # noqa: SLF001 - not exported
        raise UnreadableProgramError(f"the operator {target}")
    return found


def _on_integers(target: str) -> Callable[..., Any]:
    name = target.removeprefix("_operator.")
    if name not in _ON_INTEGERS:
        raise UnreadableProgramError(f"the operator {target}")
    function: Callable[..., Any] = getattr(operator, name)
    return function


def _result_name(output: Mapping[str, Any]) -> str:
    ((kind, value),) = output.items()
    if kind == "as_tensor":
        return str(value["name"])
    if kind in {"as_sym_int", "as_sym_bool"} and "as_name" in value:
        return str(value["as_name"])
    raise UnreadableProgramError(f"a result {kind!r}")


def _tensor_name(argument: Mapping[str, Any]) -> str:
    if "as_tensor" not in argument:
        raise UnreadableProgramError(f"an input or output {next(iter(argument))!r}")
    return str(argument["as_tensor"]["name"])


def _known(words: Mapping[int, Any], number: int) -> Any:
    if number not in words:
        raise UnreadableProgramError(f"number {number} of a layout")
    return words[number]
