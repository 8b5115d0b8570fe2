"""Every model of the comparison, as the Python backend runs it; the name says which."""

import numpy as np
import triton_python_backend_utils as triton


def _sum_and_difference(a, b):
    return {"sum": a + b, "difference": a - b}


def _exclaim(x):
    return {"y": np.vectorize(lambda word: word + b"!", otypes="O")(x)}


def _identity(x):
    return {"y": x}


class TritonPythonModel:
    """Answers request by request."""

    def initialize(self, args):
        """Take the callable that the model's name stands for."""
        self._call = {"pair": _sum_and_difference, "words": _exclaim}.get(
            args["model_name"], _identity
        )
        self._is_half = args["model_name"] == "identity-bf16"
        self._in_parts = args["model_name"] == "parts"

    def execute(self, requests):
        """Answer a batch of requests."""
        if self._in_parts:
            for request in requests:
                self._answer_in_parts(request)
            return None
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        if self._is_half:  # numpy has no such numbers
            (tensor,) = request.inputs()
            same = triton.Tensor.from_dlpack("y", tensor.to_dlpack())
            return triton.InferenceResponse([same])
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        wanted = request.requested_output_names()
        outputs = self._call(**inputs)
        return triton.InferenceResponse(
            [triton.Tensor(name, value) for name, value in outputs.items() if name in wanted]
        )

    def _answer_in_parts(self, request):
        sender = request.get_response_sender()
        for number in triton.get_input_tensor_by_name(request, "x").as_numpy().reshape(-1):
            if number < 0:
                sender.send(triton.InferenceResponse(error=triton.TritonError("negative")))
                break
            sender.send(triton.InferenceResponse([triton.Tensor("y", number.reshape(1, 1))]))
        sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
