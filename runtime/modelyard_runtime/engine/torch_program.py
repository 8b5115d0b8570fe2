"""Exported programs, read without torch's compiler.

References:
    ``torch/_export/serde/schema.py``, ``GraphSignature`` and ``TensorMeta``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.engine.protocol import TensorSpec
from modelyard_runtime.engine.torch_archive import Archive, UnreadableProgramError, dtype_of
from modelyard_runtime.engine.torch_graph import build_module
from modelyard_runtime.engine.torch_tensors import DATATYPE_NAMES
from modelyard_runtime.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import torch

    from modelyard_runtime.engine.protocol import Arrays

_SYMBOL: Final = re.compile(r"Symbol\('(\w+)'[^()]*\)")
_SIZE: Final = r"L\['\w+'\]\.size\(\)\[\d+\]"
_EQUAL_SIZES: Final = re.compile(rf"{_SIZE} == {_SIZE}")
_SMALLEST: Final = 2
"""Exporting takes 0 and 1 for special; programs run with one row all the same."""


@dataclass(frozen=True, slots=True)
class Program:
    """An exported program in memory.

    Attributes:
        module: Takes one tensor per input, returns a tuple of one tensor per output.
        inputs: What it takes.
        outputs: What it gives.
        batched: Whether the first axis of all of them is one and the same dynamic dimension.
        max_rows: Most rows; None is no limit.
        sizes: What holds between the sizes of the inputs.
    """

    module: torch.nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    max_rows: int | None
    sizes: Sizes


@dataclass(frozen=True, slots=True)
class Sizes:
    """The rules of dynamic dimensions, which the exported program would check itself.

    Attributes:
        places: Dimension → the inputs and axes that it is the size of.
        bounds: Dimension → smallest and largest size.
        names: Of the inputs, for messages.
    """

    places: Mapping[str, Sequence[tuple[int, int]]]
    bounds: Mapping[str, tuple[int, int | None]]
    names: Sequence[str]

    @property
    def trivial(self) -> bool:
        """Whether there is nothing to check: the shapes say it all."""
        alone = all(len(places) == 1 for places in self.places.values())
        return alone and all(bound == (0, None) for bound in self.bounds.values())

    def check(self, inputs: Arrays) -> None:
        """Check the inputs of a request, or of a batch.

        Args:
            inputs: In the order of the model's inputs.

        Raises:
            InvalidInputError: Two axes that must be equal are not, or one is out of its bounds.
        """
        for dimension, places in self.places.items():
            first, axis = places[0]
            size = inputs[first].shape[axis]
            for other, its_axis in places[1:]:
                got = inputs[other].shape[its_axis]
                if got != size:
                    raise InvalidInputError(
                        f"input {self.names[other]!r}: expected size {size} of axis {its_axis}, as "
                        f"of axis {axis} of {self.names[first]!r}, got {got}"
                    )
            low, high = self.bounds[dimension]
            if size < low or (high is not None and size > high):
                most = "or more" if high is None else f"to {high}"
                raise InvalidInputError(
                    f"input {self.names[first]!r}: expected size {low} {most} of axis {axis}, "
                    f"got {size}"
                )


def read_program(path: Path, device: torch.device) -> Program:
    """Read what ``torch.export.save`` wrote.

    Args:
        path: A ``.pt2`` file.
        device: Where it is to run.

    Returns:
        The program.

    Raises:
        UnreadableProgramError: It uses what only ``torch.export.load`` understands.
    """
    archive = Archive(path)
    document = archive.program
    source = document["graph_module"]
    graph, signature = source["graph"], source["signature"]
    for guard in document.get("guards_code") or ():
        if not _EQUAL_SIZES.fullmatch(guard):
            raise UnreadableProgramError(f"the guard {guard}")
    stored = archive.read_tensors()
    bound = dict(_bound(signature["input_specs"]))
    weights = {name: stored[place] for name, place in bound.items()}
    taken = [name for name in map(_name, graph["inputs"]) if name not in bound]
    given = [_name(spec["user_output"]["arg"]) for spec in _user(signature["output_specs"])]
    call = next(each for each in source["module_call_graph"] if each["fqn"] == "")["signature"]
    _require_flat(call["in_spec"])
    metas = graph["tensor_values"]
    ranges = document["range_constraints"]
    firsts = {_first_axis(metas[name]) for name in (*taken, *given)}
    batched = len(firsts) == 1 and None not in firsts
    return Program(
        build_module(graph, weights, device),
        tuple(_spec(name, metas[name]) for name in taken),
        tuple(
            _spec(shown, metas[name])
            for shown, name in zip(_output_names(call["out_spec"], len(given)), given, strict=True)
        ),
        batched,
        _upper(ranges, firsts.pop()) if batched else None,
        _sizes(taken, metas, ranges, batched=batched),
    )


def _bound(specs: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """Tell which graph inputs are weights, and which."""
    keys = {
        "parameter": "parameter_name",
        "buffer": "buffer_name",
        "tensor_constant": "tensor_constant_name",
    }
    for spec in specs:
        ((kind, value),) = spec.items()
        if kind in keys:
            yield value["arg"]["name"], value[keys[kind]]
        elif kind != "user_input":
            raise UnreadableProgramError(f"an input {kind!r}")


def _user(specs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    for spec in specs:
        if "user_output" not in spec:
            raise UnreadableProgramError(f"an output {next(iter(spec))!r}")
    return specs


def _name(argument: Mapping[str, Any]) -> str:
    if "as_tensor" not in argument:
        raise UnreadableProgramError(f"an input or output {next(iter(argument))!r}")
    return str(argument["as_tensor"]["name"])


def _require_flat(text: str) -> None:
    _, spec = json.loads(text)
    for group in spec["children_spec"]:
        if any(leaf["type"] is not None for leaf in group["children_spec"]):
            raise UnreadableProgramError("nested inputs")


def _output_names(text: str, count: int) -> list[str]:
    _, spec = json.loads(text)
    if spec["type"] == "builtins.dict":
        names = json.loads(spec["context"])
        if len(names) != count:
            raise UnreadableProgramError("nested outputs")
        return [str(name) for name in names]
    return ["output"] if count == 1 else [f"output_{at}" for at in range(count)]


def _spec(name: str, meta: Mapping[str, Any]) -> TensorSpec:
    datatype = DATATYPE_NAMES[dtype_of(meta["dtype"])]
    return TensorSpec(name, datatype, tuple(size.get("as_int", -1) for size in meta["sizes"]))


def _first_axis(meta: Mapping[str, Any]) -> str | None:
    if not meta["sizes"] or "as_int" in meta["sizes"][0]:
        return None
    return str(meta["sizes"][0]["as_expr"]["expr_str"])


def _symbol(expression: str) -> str:
    found = _SYMBOL.fullmatch(expression)
    if found is None:
        raise UnreadableProgramError(f"an input of size {expression}")
    return found[1]


def _upper(ranges: Mapping[str, Any], expression: str | None) -> int | None:
    most = ranges.get(_symbol(expression or ""), {}).get("max_val")
    return None if most is None else int(most)


def _sizes(
    inputs: Sequence[str], metas: Mapping[str, Any], ranges: Mapping[str, Any], *, batched: bool
) -> Sizes:
    places: dict[str, list[tuple[int, int]]] = {}
    for at, name in enumerate(inputs):
        for axis, size in enumerate(metas[name]["sizes"]):
            if "as_int" not in size and not (
                batched and axis == 0
            ):  # rows are the server's to check
                places.setdefault(_symbol(size["as_expr"]["expr_str"]), []).append((at, axis))
    bounds = {}
    for symbol in places:
        allowed = ranges.get(symbol, {})
        low, high = allowed.get("min_val") or 0, allowed.get("max_val")
        bounds[symbol] = (low if low > _SMALLEST else 0, high)
    return Sizes(places, bounds, inputs)
