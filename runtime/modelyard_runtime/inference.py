"""Validate → decode → batch → encode: one model's requests, without HTTP and without torch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from modelyard_runtime.engine.protocol import ANY
from modelyard_runtime.errors import (
    InferenceError,
    InvalidInputError,
    MalformedRequestError,
    UnsupportedMediaError,
)
from modelyard_runtime.tensors import datatype_of, decode_tensor, encode_tensor

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from modelyard_runtime.batching import Batcher
    from modelyard_runtime.engine.protocol import Arrays, Model, TensorSpec
    from modelyard_runtime.metrics import ModelMetrics

_JSON: Final = orjson.OPT_SERIALIZE_NUMPY
_MAX_ID: Final = 1024
_UNSPOKEN: Final = (
    "binary_data",
    "binary_data_size",
    "binary_data_output",
    "classification",
    "shared_memory_region",
)
"""Parameters of protocol extensions that change the answer and are not spoken here."""


@dataclass(frozen=True, slots=True)
class Question:
    """One decoded inference request.

    Attributes:
        request_id: The protocol's ``id``; None when the caller sent none.
        arrays: One per declared input.
        outputs: Positions of the outputs to answer, in the caller's order.
        key: Requests of equal key may share a batch.
        rows: Size of the first axis for batched models, else 1.
    """

    request_id: str | None
    arrays: Arrays
    outputs: tuple[int, ...]
    key: Hashable
    rows: int


class ModelCalls:
    """Tells the batcher how a model's requests are run, cut and joined.

    Args:
        model: The model to run.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def run(self, items: Sequence[Arrays]) -> Sequence[Arrays]:
        """Run requests of equal inner shapes as one forward pass.

        Args:
            items: Inputs of each request, ``(rows, …)`` each.

        Returns:
            Outputs of each request.

        Raises:
            InferenceError: An output's first axis does not count the rows that went in.
        """
        if len(items) == 1:
            return [self._model.predict(items[0])]
        merged = tuple(np.concatenate(column) for column in zip(*items, strict=True))
        outputs = self._model.predict(merged)
        ends = np.cumsum([item[0].shape[0] for item in items]).tolist()
        for output in outputs:
            if output.ndim == 0 or output.shape[0] != ends[-1]:
                raise InferenceError(
                    f"the model answered {ends[-1]} rows with shape {list(output.shape)}"
                )
        starts = [0, *ends[:-1]]
        return [
            tuple(output[start:end] for output in outputs)
            for start, end in zip(starts, ends, strict=True)
        ]

    @staticmethod
    def cut(item: Arrays, start: int, stop: int) -> Arrays:
        """Return some rows of a request.

        Args:
            item: Inputs, ``(rows, …)`` each.
            start: First row.
            stop: Row after the last one.

        Returns:
            Inputs, ``(stop - start, …)`` each.
        """
        return tuple(array[start:stop] for array in item)

    @staticmethod
    def join(answers: Sequence[Arrays]) -> Arrays:
        """Put the outputs of a cut request together.

        Args:
            answers: Outputs of each cut, in order.

        Returns:
            Outputs, ``(rows, …)`` each.
        """
        return tuple(np.concatenate(column) for column in zip(*answers, strict=True))


class ServedModel:
    """A ready model: bytes in, bytes out.

    Args:
        name: The served name.
        version: The version in the repository.
        model: The model.
        batcher: Its queue.
        metrics: Where stages are noted.
    """

    def __init__(
        self,
        name: str,
        version: str,
        model: Model,
        batcher: Batcher[Arrays, Arrays],
        metrics: ModelMetrics,
    ) -> None:
        self.name = name
        self.version = version
        self.model = model
        self.batcher = batcher
        self._metrics = metrics
        self._inputs = {spec.name: (at, spec) for at, spec in enumerate(model.inputs)}
        self._outputs = {spec.name: at for at, spec in enumerate(model.outputs)}
        self._all_outputs = tuple(range(len(model.outputs)))

    async def infer(self, body: bytes, *, deadline: float) -> bytes:
        """Answer one inference request.

        Args:
            body: A JSON inference request.
            deadline: On the event loop's clock, in seconds.

        Returns:
            A JSON inference response.

        Raises:
            RequestError: See the tree in ``errors.py``.

        References:
            Open Inference Protocol, HTTP/REST, "Inference".
        """
        clock = time.perf_counter
        begun = clock()
        question = self.decode(body)
        decoded = clock()
        outputs = await self.batcher.submit(
            question.arrays, key=question.key, rows=question.rows, deadline=deadline
        )
        computed = clock()
        answer = self.encode(question, outputs)
        self._metrics.stages(
            decode_s=decoded - begun, wait_s=computed - decoded, encode_s=clock() - computed
        )
        return answer

    def decode(self, body: bytes) -> Question:
        """Parse and check a request against what the model declares.

        Args:
            body: A JSON inference request.

        Returns:
            The request, ready for the batcher.

        Raises:
            MalformedRequestError: Not JSON, or not an inference request.
            InvalidInputError: A tensor does not fit the model.
            UnsupportedMediaError: It asks for an extension that is not spoken.
        """
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise MalformedRequestError(f"the body is not JSON: {error}") from None
        if type(document) is not dict:
            raise MalformedRequestError("the body must be a JSON object")
        request_id = document.get("id")
        if request_id is not None and (type(request_id) is not str or len(request_id) > _MAX_ID):
            raise MalformedRequestError(f"'id' must be a string of at most {_MAX_ID} characters")
        _check_parameters(document, "the request")
        arrays = self._decode_inputs(document.get("inputs"))
        asked = document.get("outputs")
        outputs = self._all_outputs if asked is None else self._decode_outputs(asked)
        rows = self._rows(arrays)
        if self.model.batched:
            key: Hashable = tuple((array.shape[1:], array.dtype.char) for array in arrays)
        else:
            key = None  # every request runs alone
        return Question(request_id, arrays, outputs, key, rows)

    def encode(self, question: Question, outputs: Arrays) -> bytes:
        """Write the answer to one request.

        Args:
            question: The request.
            outputs: What the model gave for it.

        Returns:
            A JSON inference response.

        Raises:
            NonFiniteOutputError: A requested output holds NaN or infinity.
        """
        names = self.model.outputs
        document: dict[str, Any] = {"model_name": self.name, "model_version": self.version}
        if question.request_id is not None:
            document["id"] = question.request_id
        document["outputs"] = [
            encode_tensor(names[at].name, outputs[at]) for at in question.outputs
        ]
        return orjson.dumps(document, option=_JSON)

    def metadata(self) -> dict[str, Any]:
        """Describe the model in the protocol's words.

        Returns:
            ``name``, ``versions``, ``platform``, ``inputs`` and ``outputs``.

        References:
            Open Inference Protocol, HTTP/REST, "Model Metadata".
        """
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": self.model.platform,
            "inputs": [spec.as_document() for spec in self.model.inputs],
            "outputs": [spec.as_document() for spec in self.model.outputs],
        }

    def _decode_inputs(self, tensors: object) -> Arrays:
        if type(tensors) is not list:
            raise MalformedRequestError("'inputs' must be an array of tensors")
        found: dict[int, Any] = {}
        for tensor in tensors:
            name = tensor.get("name") if type(tensor) is dict else None
            if type(name) is not str:
                raise MalformedRequestError("an input must be an object with a 'name'")
            known = self._inputs.get(name)
            if known is None:
                raise InvalidInputError(
                    f"unknown input {name[:80]!r}; the model takes {_listed(self.model.inputs)}"
                )
            at, spec = known
            if at in found:
                raise InvalidInputError(f"input {name!r} is given twice")
            _check_parameters(tensor, f"input {name!r}")
            found[at] = decode_tensor(tensor, spec)
        if len(found) != len(self._inputs):
            absent = [spec for at, spec in enumerate(self.model.inputs) if at not in found]
            raise InvalidInputError(f"missing input: {_listed(absent)}")
        return tuple(found[at] for at in range(len(found)))

    def _decode_outputs(self, asked: object) -> tuple[int, ...]:
        if type(asked) is not list:
            raise MalformedRequestError("'outputs' must be an array")
        wanted: list[int] = []
        for output in asked:
            name = output.get("name") if type(output) is dict else None
            if type(name) is not str:
                raise MalformedRequestError("a requested output must be an object with a 'name'")
            at = self._outputs.get(name)
            if at is None:
                raise InvalidInputError(
                    f"unknown output {name[:80]!r}; the model gives {_listed(self.model.outputs)}"
                )
            if at in wanted:
                raise InvalidInputError(f"output {name!r} is requested twice")
            _check_parameters(output, f"output {name!r}")
            wanted.append(at)
        return tuple(wanted) or self._all_outputs

    def _rows(self, arrays: Arrays) -> int:
        if not self.model.batched:
            return 1
        rows: int = arrays[0].shape[0]
        for array, spec in zip(arrays, self.model.inputs, strict=True):
            if array.shape[0] != rows:
                raise InvalidInputError(
                    f"input {spec.name!r} has {array.shape[0]} rows, "
                    f"{self.model.inputs[0].name!r} has {rows}"
                )
        if rows == 0:
            raise InvalidInputError(f"input {self.model.inputs[0].name!r} has no rows")
        return rows


def declared_outputs(specs: Sequence[TensorSpec], outputs: Arrays) -> tuple[TensorSpec, ...]:
    """Fill in the datatypes that an artifact left open, from a real answer.

    Args:
        specs: The declared outputs.
        outputs: What the model gave.

    Returns:
        The outputs, with no ``ANY`` left.
    """
    cls = type(specs[0])
    return tuple(
        cls(spec.name, datatype_of(array), spec.shape) if spec.datatype == ANY else spec
        for spec, array in zip(specs, outputs, strict=True)
    )


def _check_parameters(holder: dict[str, Any], where: str) -> None:
    parameters = holder.get("parameters")
    if parameters is None:
        return
    if type(parameters) is not dict:
        raise MalformedRequestError(f"'parameters' of {where} must be an object")
    for word in _UNSPOKEN:
        if parameters.get(word):
            raise UnsupportedMediaError(
                f"parameter {word!r} of {where} belongs to an extension that is not spoken here"
            )


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs) or "nothing"
