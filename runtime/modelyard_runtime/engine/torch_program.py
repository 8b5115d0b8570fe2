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
_WEIGHTS: Final = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}
"""Kind of a graph's input → where its qualified name is."""
_SMALLEST: Final = 2
"""Exporting takes 0 and 1 for special; programs run with one row all the same."""


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


@dataclass(frozen=True, slots=True)
class Signature:
    """What a program takes and gives.

    Attributes:
        inputs: What it takes.
        outputs: What it gives.
        batched: Whether the first axis of all of them is one and the same dynamic dimension.
        max_rows: Most rows; None is no limit.
        sizes: What holds between the sizes of the inputs.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = False
    max_rows: int | None = None
    sizes: Sizes = Sizes({}, {}, ())


def read_program(path: Path, device: torch.device) -> tuple[torch.nn.Module, Signature]:
    """Read what ``torch.export.save`` wrote.

    Args:
        path: A ``.pt2`` file.
        device: Where it is to run.

    Returns:
        A module that takes one tensor per input and returns a tuple of one tensor per output, and
        what they are.

    Raises:
        UnreadableProgramError: It uses what only ``torch.export.load`` understands.
    """
    archive = Archive(path)
    signature = describe(archive.program)
    stored, source = archive.read_tensors(), archive.program["graph_module"]
    bound = _bound(source["signature"]["input_specs"])
    weights = {name: stored[place] for name, place in bound.items()}
    return build_module(source["graph"], weights, device), signature


def describe(document: Mapping[str, Any]) -> Signature:
    """Find out what a program takes and gives.

    Args:
        document: Its JSON.

    Returns:
        The signature.

    Raises:
        UnreadableProgramError: It takes or gives something else than tensors, or checks more of
            them than is understood here.
    """
    source = document["graph_module"]
    graph, signature = source["graph"], source["signature"]
    for guard in document.get("guards_code") or ():
        if not _EQUAL_SIZES.fullmatch(guard):
            raise UnreadableProgramError(f"the guard {guard}")
    bound = _bound(signature["input_specs"])
    taken = [name for name in map(_name, graph["inputs"]) if name not in bound]
    given = [_name(each) for each in _user_outputs(signature["output_specs"])]
    call = next(each for each in source["module_call_graph"] if each["fqn"] == "")["signature"]
    _require_flat(json.loads(call["in_spec"])[1])
    shown = output_names(json.loads(call["out_spec"])[1])
    if len(shown) != len(given):
        raise UnreadableProgramError("nested outputs")
    metas, ranges = graph["tensor_values"], document["range_constraints"]
    firsts = {_first_axis(metas[name]) for name in (*taken, *given)}
    batched = len(firsts) == 1 and None not in firsts
    return Signature(
        tuple(_spec(name, metas[name]) for name in taken),
        tuple(_spec(word, metas[name]) for word, name in zip(shown, given, strict=True)),
        batched,
        _upper(ranges, firsts.pop()) if batched else None,
        _sizes(taken, metas, ranges, batched=batched),
    )


def output_names(spec: Mapping[str, Any]) -> list[str]:
    """Name the outputs: by the keys of a mapping, else by their places.

    Args:
        spec: The outputs' tree, from the call spec.

    Returns:
        One name per tensor.
    """
    if spec["type"] == "builtins.dict":
        return [str(name) for name in json.loads(spec["context"])]
    count = _leaves(spec)
    return ["output"] if count == 1 else [f"output_{at}" for at in range(count)]


def _leaves(spec: Mapping[str, Any]) -> int:
    return 1 if spec["type"] is None else sum(map(_leaves, spec["children_spec"]))


def _bound(specs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Tell which graph inputs are weights, and which."""
    bound = {}
    for spec in specs:
        ((kind, value),) = spec.items()
        if kind in _WEIGHTS:
            bound[value["arg"]["name"]] = value[_WEIGHTS[kind]]
        elif kind != "user_input":
            raise UnreadableProgramError(f"an input {kind!r}")
    return bound


def _user_outputs(specs: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for spec in specs:
        if "user_output" not in spec:
            raise UnreadableProgramError(f"an output {next(iter(spec))!r}")
        yield spec["user_output"]["arg"]


def _name(argument: Mapping[str, Any]) -> str:
    if "as_tensor" not in argument:
        raise UnreadableProgramError(f"an input or output {next(iter(argument))!r}")
    return str(argument["as_tensor"]["name"])


def _require_flat(spec: Mapping[str, Any]) -> None:
    for group in spec["children_spec"]:
        if any(leaf["type"] is not None for leaf in group["children_spec"]):
            raise UnreadableProgramError("nested inputs")


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
