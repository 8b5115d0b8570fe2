"""TorchExport and TorchScript models."""

from __future__ import annotations

import threading
import warnings
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from modelyard_runtime.engine.protocol import ANY, DATATYPES, DTYPES, Model, TensorSpec
from modelyard_runtime.errors import Reason, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modelyard_runtime.engine.protocol import Arrays

_TORCH_DTYPES: Final = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "FP32": torch.float32,
    "FP64": torch.float64,
}
_NAMES: Final = {dtype: name for name, dtype in _TORCH_DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model runs.

    Attributes:
        device: CPU or CUDA.
        threads: Compute threads of one operator; operators never run beside each other.
    """

    device: torch.device
    threads: int


class TorchModel(Model):
    """A callable of flat tensors behind the engine protocol.

    Args:
        call: Takes one tensor per input, returns one tensor per output.
        inputs: What it takes.
        outputs: What it gives.
        kind: ``format`` and ``platform``.
        placement: Where it runs.
        input_dtypes: What inputs are converted to on the device; differs from the declared
            datatype for bfloat16, which numpy lacks.
    """

    def __init__(
        self,
        call: Callable[..., tuple[torch.Tensor, ...]],
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        *,
        kind: tuple[str, str],
        placement: Placement,
        input_dtypes: tuple[torch.dtype | None, ...],
    ) -> None:
        self._call = call
        self._threads = placement.threads
        self._bounded: set[int] = set()
        self._device = placement.device
        self._dtypes = input_dtypes
        self._direct = placement.device.type == "cpu" and torch.bfloat16 not in input_dtypes
        self.inputs = inputs
        self.outputs = outputs
        self.format, self.platform = kind
        self.device = placement.device.type
        self.batched = False
        self.max_rows: int | None = None

    def predict(self, inputs: Arrays) -> Arrays:
        """Run one forward pass.

        Args:
            inputs: Writable C-contiguous arrays, one per input.

        Returns:
            One array per output, in host memory; bfloat16 is widened to float32.
        """
        thread = threading.get_ident()
        if thread not in self._bounded:
            # OpenMP keeps the bound per calling thread: without this, whoever runs the model after
            # the thread that loaded it would compute on every processor, and spin there.
            torch.set_num_threads(self._threads)
            self._bounded.add(thread)
        with torch.inference_mode():
            tensors = [torch.from_numpy(array) for array in inputs]
            if not self._direct:
                tensors = [
                    tensor.to(self._device, dtype, non_blocking=True)
                    for tensor, dtype in zip(tensors, self._dtypes, strict=True)
                ]
            outputs = self._call(*tensors)
            return tuple(_to_host(output).numpy() for output in outputs)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    return tensor.detach().cpu()


def choose_device(wanted: str) -> torch.device:
    """Choose where to run.

    Args:
        wanted: ``Auto``, ``CPU`` or ``CUDA``.

    Returns:
        The device; ``Auto`` is CUDA where there is one.

    Raises:
        StartupError: ``DeviceUnavailable``.
    """
    if wanted == "CPU":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "CUDA":
        raise StartupError(
            Reason.DEVICE_UNAVAILABLE,
            "CUDA is asked for and torch finds no device",
            hint="Request a GPU (spec.accelerator) and use an image with a CUDA build of torch.",
        )
    return torch.device("cpu")


def load_export(path: Path, placement: Placement) -> TorchModel:
    """Load what ``torch.export.save`` wrote.

    Args:
        path: A ``.pt2`` file.
        placement: Where to run.

    Returns:
        The model, its inputs and outputs taken from the program's call spec. It is batched when the
        first axis of every input and output is one and the same dynamic dimension.

    Raises:
        StartupError: ``InvalidArtifact``.

    References:
        ``torch.export`` documentation, "ExportedProgram" and "Expressing Dynamism".
    """
    program = _read_export(path)
    if program.call_spec.in_spec is not None and _nested(program.call_spec.in_spec):
        raise _invalid(path, "its inputs are nested; each must be a tensor")
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    signature = program.graph_signature
    inputs: list[tuple[str, Any]] = [
        (str(name), values.get(str(name))) for name in signature.user_inputs
    ]
    outputs: list[Any] = [values.get(str(name)) for name in signature.user_outputs]
    if not all(isinstance(v, torch.Tensor) for v in (*dict(inputs).values(), *outputs)):
        raise _invalid(path, "an input or output is not a tensor")
    names = _output_names(program.call_spec.out_spec, len(outputs))
    model = TorchModel(
        _flat_call(program, placement.device),
        tuple(_spec(path, name, value) for name, value in inputs),
        tuple(_spec(path, name, value) for name, value in zip(names, outputs, strict=True)),
        kind=("TorchExport", "pytorch_export"),
        placement=placement,
        input_dtypes=tuple(value.dtype for _, value in inputs),
    )
    firsts = {_first_axis(value) for value in (*dict(inputs).values(), *outputs)}
    model.batched = len(firsts) == 1 and None not in firsts
    if model.batched:
        model.max_rows = _upper_bound(program, inputs[0][1])
    return model


def _read_export(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            compiled = any("/data/aotinductor/" in name for name in archive.namelist())
        program = None if compiled else torch.export.load(path)
    except Exception as error:
        raise _invalid(path, f"torch.export.load refuses it: {_first_line(error)}") from error
    if program is None:
        raise _invalid(path, "it is an AOTInductor package, not an exported program")
    return program


def _flat_call(program: Any, device: torch.device) -> Callable[..., tuple[torch.Tensor, ...]]:
    module = program.module().to(device)
    flatten = torch.utils._pytree.tree_leaves  # noqa: SLF001 - torch.export documents out_spec in its terms
    args, kwargs = program.call_spec.in_spec.children()
    positional = args.num_children
    keywords = list(kwargs.context)

    def call(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        named = dict(zip(keywords, tensors[positional:], strict=True))
        answer = module(*tensors[:positional], **named)
        return (answer,) if isinstance(answer, torch.Tensor) else tuple(flatten(answer))

    return call


def load_script(path: Path, placement: Placement) -> TorchModel:
    """Load what ``torch.jit.save`` wrote.

    A script says neither shapes nor datatypes, so it takes any. It is therefore not batched: rows
    of two callers may only meet on an axis that is known to count rows. The rows of one request
    stay together.

    Args:
        path: A TorchScript file.
        placement: Where to run.

    Returns:
        The model, its inputs named like the arguments of ``forward``.

    Raises:
        StartupError: ``InvalidArtifact``.
    """
    with warnings.catch_warnings():
        # torch calls TorchScript deprecated; those who have such files know.
        warnings.simplefilter("ignore")
        try:
            module = torch.jit.load(str(path), map_location=placement.device).eval()  # type: ignore[no-untyped-call]
            arguments = module.forward.schema.arguments[1:]
        except Exception as error:
            raise _invalid(path, f"torch.jit.load refuses it: {_first_line(error)}") from error
        wrong = [a.name for a in arguments if str(a.type) != "Tensor" and not a.has_default_value()]
        if wrong:
            raise _invalid(path, f"argument {wrong[0]!r} of forward is not a tensor")
        names = [a.name for a in arguments if str(a.type) == "Tensor"]
        outputs = _script_outputs(path, module)
        module = _frozen(module)

    def call(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answer = module(*tensors)
        if isinstance(answer, torch.Tensor):
            return (answer,)
        return tuple(answer)

    return TorchModel(
        call,
        tuple(TensorSpec(name, ANY, None) for name in names),
        tuple(TensorSpec(name, ANY, None) for name in outputs),
        kind=("TorchScript", "pytorch_torchscript"),
        placement=placement,
        input_dtypes=(None,) * len(names),
    )


def _frozen(module: Any) -> Any:
    try:
        return torch.jit.freeze(module)
    except RuntimeError:  # some scripts mutate their attributes; they run as they are
        return module


def _script_outputs(path: Path, module: Any) -> list[str]:
    returned = module.forward.schema.returns[0].type
    if str(returned) == "Tensor":
        return ["output"]
    elements = returned.elements() if returned.kind() == "TupleType" else []
    if elements and all(str(element) == "Tensor" for element in elements):
        return [f"output_{at}" for at in range(len(elements))]
    raise _invalid(path, f"forward must return a tensor or a tuple of tensors, not {returned}")


def _nested(in_spec: Any) -> bool:
    return any(not leaf.is_leaf() for group in in_spec.children() for leaf in group.children())


def _output_names(out_spec: Any, count: int) -> list[str]:
    if out_spec.type is dict:
        return [str(key) for key in out_spec.context]
    return ["output"] if count == 1 else [f"output_{at}" for at in range(count)]


def _spec(path: Path, name: str, value: torch.Tensor) -> TensorSpec:
    dtype = torch.float32 if value.dtype is torch.bfloat16 else value.dtype
    datatype = _NAMES.get(dtype)
    if datatype is None or DTYPES[datatype] not in DATATYPES:
        raise _invalid(path, f"tensor {name!r} has dtype {value.dtype}, which is not served")
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(name, datatype, shape)


def _first_axis(value: torch.Tensor) -> str | None:
    """Name the dynamic dimension on the first axis; None when it is fixed."""
    if value.ndim == 0 or isinstance(value.shape[0], int):
        return None
    return str(value.shape[0])


def _upper_bound(program: Any, value: torch.Tensor) -> int | None:
    for symbol, bounds in program.range_constraints.items():
        if str(symbol) == str(value.shape[0]):
            try:
                return int(bounds.upper)
            except (TypeError, ValueError, OverflowError, AttributeError):
                return None
    return None


def _invalid(path: Path, why: str) -> StartupError:
    return StartupError(
        Reason.INVALID_ARTIFACT,
        f"{path.name}: {why}",
        hint="Export the model again with torch.export.save and check it with torch.export.load.",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
