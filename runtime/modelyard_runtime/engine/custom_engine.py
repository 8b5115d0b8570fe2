"""Models that are a user's own code: a class with ``predict``, a function, any callable."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelyard_runtime.engine.protocol import ANY, DTYPES, Model, TensorSpec
from modelyard_runtime.errors import InferenceError
from modelyard_runtime.tensors import datatype_of
from modelyard_runtime.values import ValueMismatchError, as_arrays, as_named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from modelyard_runtime.engine.protocol import Arrays
    from modelyard_runtime.handler import Context, Handler

_WHOLE: Final = "inputs"
"""A single parameter of this name is given all arrays by name."""
_CONTEXT: Final = "ctx"


class CustomModel(Model):
    """A callable behind the engine protocol.

    Args:
        call: Takes the arrays by name.
        inputs: What it takes.
        outputs: What it gives; empty finds out.
        device: ``cpu`` or ``cuda``, as the user's code sees it.
    """

    format = "Custom"
    platform = "python"

    def __init__(
        self,
        call: Callable[[Mapping[str, Any]], object],
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        *,
        device: str,
    ) -> None:
        self._call = call
        self.device = device
        self.inputs = inputs
        # Declared rows; warming proves that they do not depend on one another.
        self.batched = all(spec.shape is not None and spec.shape[:1] == (-1,) for spec in inputs)
        self.max_rows: int | None = None
        self.outputs = outputs or self._learnt()

    def predict(self, inputs: Arrays) -> Arrays:
        """Call the user's code.

        Args:
            inputs: One array per input; strings are objects of ``bytes``.

        Returns:
            One array per output.

        Raises:
            InferenceError: It returned something else than it declares.
        """
        answer = self._call(as_named(inputs, self.inputs))
        try:
            return as_arrays(answer, self.outputs)
        except ValueMismatchError as error:
            raise InferenceError(f"predict returned something else: {error}") from error

    def _learnt(self) -> tuple[TensorSpec, ...]:
        """Ask once, where it is declared what to ask with: the answer's names are the outputs."""
        if all(spec.shape is not None and spec.datatype != ANY for spec in self.inputs):
            made_up = tuple(
                np.full(
                    [1 if size == -1 else size for size in spec.shape or ()],
                    b"a" if spec.datatype == "BYTES" else 0,
                    DTYPES[spec.datatype],
                )
                for spec in self.inputs
            )
            try:
                return _outputs_of(self._call(as_named(made_up, self.inputs)))
            except Exception:  # noqa: BLE001 - warming tells what is wrong with it
                return (TensorSpec("output", ANY, None),)
        return (TensorSpec("output", ANY, None),)


def load_custom(
    handler: Handler,
    instance: object,
    context: Context,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> CustomModel:
    """Make a model of a user's object.

    Its inputs are the parameters of ``predict`` by name, unless they are declared. ``ctx`` among
    them is given the context; a single parameter ``inputs`` is given all arrays by name.

    Args:
        handler: The file, for messages.
        instance: What ``Handler.make`` made.
        context: For ``ctx``.
        inputs: Declared inputs.
        outputs: Declared outputs.

    Returns:
        The model.

    Raises:
        StartupError: ``InvalidHandler``: it cannot be called, or nobody says with what.
    """
    function = getattr(instance, "predict", instance)
    if not callable(function):
        raise handler.invalid(f"{type(instance).__name__} has no 'predict' and is not callable")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise handler.invalid("predict must not be async; hooks may be")
    parameters = dict(inspect.signature(function).parameters)
    extra = {} if parameters.pop(_CONTEXT, None) is None else {_CONTEXT: context}
    whole = list(parameters) == [_WHOLE]

    def call(arrays: Mapping[str, Any]) -> object:
        return function(arrays, **extra) if whole else function(**arrays, **extra)

    takes = _taken(handler, parameters, inputs)
    return CustomModel(call, takes, tuple(outputs), device=context.device)


def _taken(
    handler: Handler,
    parameters: Mapping[str, inspect.Parameter],
    declared: Sequence[TensorSpec],
) -> tuple[TensorSpec, ...]:
    """Take the inputs from the parameters, or hold the declared ones to them."""
    kinds = {each.kind for each in parameters.values()}
    takes_any = list(parameters) == [_WHOLE] or bool(
        kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    )
    required = [name for name, each in parameters.items() if each.default is each.empty]
    if not declared:
        if takes_any or not required:
            raise handler.invalid(
                "predict does not say what it takes; declare 'inputs', or name its parameters"
            )
        return tuple(TensorSpec(name, ANY, None) for name in required)
    names = [spec.name for spec in declared]
    if not takes_any and (set(required) - set(names) or set(names) - set(parameters)):
        raise handler.invalid(
            f"predict takes ({', '.join(parameters)}), declared are ({', '.join(names)})"
        )
    return tuple(declared)


def _outputs_of(answer: object) -> tuple[TensorSpec, ...]:
    if isinstance(answer, dict):
        names = [str(name) for name in answer]
    else:
        several = isinstance(answer, tuple) and len(answer) > 1
        names = [f"output_{at}" for at in range(len(answer))] if several else ["output"]  # type: ignore[arg-type]
    arrays = as_arrays(answer, [TensorSpec(name, ANY, None) for name in names])
    return tuple(
        TensorSpec(name, datatype_of(array), None)
        for name, array in zip(names, arrays, strict=True)
    )
