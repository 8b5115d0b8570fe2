"""Plain ``nn.Module`` classes with saved weights."""

from __future__ import annotations

import inspect
import pickle
from typing import TYPE_CHECKING, Final

import torch

from modelyard_runtime.engine.protocol import ANY, TensorSpec
from modelyard_runtime.engine.torch_engine import Flat, TorchModel, brief, invalid_artifact
from modelyard_runtime.engine.torch_tensors import DATATYPE_NAMES, TORCH_DTYPES
from modelyard_runtime.values import as_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from modelyard_runtime.engine.torch_engine import Placement
    from modelyard_runtime.errors import StartupError
    from modelyard_runtime.handler import Handler

_WRAPPED: Final = ("state_dict", "model_state_dict")
"""Where checkpoints of training loops keep the weights."""
_SHOWN: Final = 5
_OPEN_SIZES: Final = (1, 16, 64, 224)
"""What is tried for an inner dimension that is declared to be of any size."""


def load_eager(
    handler: Handler,
    instance: object,
    path: Path,
    placement: Placement,
    *,
    declared: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
) -> TorchModel:
    """Put saved weights into a user's module.

    Its inputs are the required parameters of ``forward``, unless they are declared. Its outputs are
    what a first call returns; that needs declared inputs. Else it is taken to return one tensor.

    Args:
        handler: The file that the module is from, for messages.
        instance: What ``Handler.make`` made.
        path: A state dict of ``torch.save``, or a ``.safetensors`` file; a folder: the module has
            its weights already.
        placement: Where to run.
        declared: Declared inputs and outputs.

    Returns:
        The model.

    Raises:
        StartupError: ``InvalidArtifact``: the weights are not those of the module;
            ``InvalidHandler``: it is no module, or nobody says what it takes.
    """
    module = _filled(handler, instance, path, placement)
    inputs = tuple(declared[0]) or _parameters(handler, module)
    words = [spec.name for spec in (*inputs, *declared[1]) if spec.datatype == "BYTES"]
    if words:
        raise handler.invalid(f"{words[0]!r} is declared BYTES, which torch has no tensor for")
    flat, outputs = _flat(handler, module, inputs, declared[1])
    kind = "Safetensors" if path.suffix == ".safetensors" else "TorchEager", "pytorch_eager"
    model = TorchModel(flat, inputs, outputs, kind=kind, placement=placement)
    model.batched = all(spec.shape is not None and spec.shape[:1] == (-1,) for spec in inputs)
    return model


def _filled(
    handler: Handler, instance: object, path: Path, placement: Placement
) -> torch.nn.Module:
    """Give the user's module its weights, and bring it to where it runs."""
    if not isinstance(instance, torch.nn.Module):
        kind = getattr(instance, "__name__", type(instance).__name__)
        raise handler.invalid(f"{kind} is no torch.nn.Module")
    if not path.is_dir():
        _fill(instance, _read(path), path)
    module = instance.eval().to(placement.device)
    return module.float() if placement.dtype == "FP32" else module


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    """Read weights; nothing in the file can run."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415 - only where it is needed

        try:
            loaded: Mapping[str, torch.Tensor] = load_file(path)
        except Exception as error:
            raise _invalid(path, f"safetensors refuses it: {brief(error)}") from error
        return loaded
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _invalid(path, "it holds pickled Python objects, not only weights") from error
    except Exception as error:
        raise _invalid(path, f"torch.load refuses it: {brief(error)}") from error
    for key in _WRAPPED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state:
        raise _invalid(path, f"expected a state dict, got {type(state).__name__}")
    strange = [str(key) for key, each in state.items() if not isinstance(each, torch.Tensor)]
    if strange:
        raise _invalid(path, f"expected a state dict of tensors, {strange[0]!r} is none")
    return state


def _fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise _invalid(path, lines[0] if lines else brief(error)) from error
    named = dict(module.state_dict(keep_vars=True))
    filled = {id(named[key]) for key in state if key in named}
    # Safetensors keeps tied weights once.
    missing = [key for key in missing if id(named.get(key)) not in filled]
    if missing or unexpected:
        problems = [
            f"{word} weights: {_listed(keys)}"
            for word, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise _invalid(path, f"it does not fit {type(module).__name__}: {'; '.join(problems)}")


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _parameters(handler: Handler, module: torch.nn.Module) -> tuple[TensorSpec, ...]:
    """Take the inputs from ``forward``: what it requires."""
    parameters = inspect.signature(module.forward).parameters.values()
    required = [each.name for each in parameters if each.default is each.empty]
    open_ended = any(each.kind in {each.VAR_KEYWORD, each.VAR_POSITIONAL} for each in parameters)
    if open_ended or not required:
        raise handler.invalid(
            f"{type(module).__name__}.forward does not say what it takes; declare 'inputs'"
        )
    return tuple(TensorSpec(name, ANY, None) for name in required)


def _flat(
    handler: Handler,
    module: torch.nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[Flat, tuple[TensorSpec, ...]]:
    """Put the tensors in an order, and find out what comes back."""
    names = tuple(spec.name for spec in inputs)
    signature = inspect.signature(module.forward)
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError:
        takes = ", ".join(signature.parameters)
        raise handler.invalid(
            f"forward takes ({takes}), declared are ({', '.join(names)})"
        ) from None
    if not outputs:
        answer = _first_answer(module, inputs)
        outputs = (TensorSpec("output", ANY, None),) if answer is None else _told(handler, answer)
    order = tuple(spec.name for spec in outputs)
    return Flat(module, positional=0, keywords=names, outputs=order), tuple(outputs)


def _first_answer(module: torch.nn.Module, inputs: Sequence[TensorSpec]) -> object | None:
    """Ask once with zeros; None where nobody says with which, or none of them fits."""
    if any(spec.shape is None or spec.datatype == ANY for spec in inputs):
        return None
    device = next((each.device for each in module.parameters()), torch.device("cpu"))
    for size in _OPEN_SIZES:
        zeros = [
            torch.zeros(
                [1, *(size if n == -1 else n for n in spec.shape[1:])] if spec.shape else [],
                dtype=TORCH_DTYPES[spec.datatype],
                device=device,
            )
            for spec in inputs
        ]
        try:
            with torch.inference_mode():
                answer: object = module(**as_named(zeros, inputs))  # type: ignore[arg-type]
        except RuntimeError:
            continue  # another size may fit; warming tells what is wrong with them all
        return answer
    return None


def _told(handler: Handler, answer: object) -> tuple[TensorSpec, ...]:
    """Name what a first call returned."""
    if isinstance(answer, torch.Tensor):
        named = {"output": answer}
    elif isinstance(answer, dict):
        named = {str(name): each for name, each in answer.items()}
    elif isinstance(answer, (tuple, list)) and answer:
        named = {f"output_{at}": each for at, each in enumerate(answer)}
    else:
        named = {}
    strange = [name for name, each in named.items() if not isinstance(each, torch.Tensor)]
    if strange or not named:
        got = f"{strange[0]!r} is a {type(named[strange[0]]).__name__}" if strange else repr(answer)
        raise handler.invalid(f"forward must return tensors, {got[:100]}")
    return tuple(
        TensorSpec(name, DATATYPE_NAMES.get(each.dtype, ANY), None) for name, each in named.items()
    )


def _invalid(path: Path, why: str) -> StartupError:
    return invalid_artifact(
        path, why, hint="Save model.state_dict() with torch.save or safetensors.torch.save_file."
    )
