"""What a pod says of its model on ``GET /status``: inputs, outputs, and whether it was verified.

docs/reference/runtime-contract.md describes the document.
"""

from pydantic import BaseModel, ConfigDict, ValidationError


class Tensor(BaseModel):
    """An input or an output as the runtime declares it; a size of -1 is any size."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.datatype} {list(self.shape)}"


class Verification(BaseModel):
    """What became of the golden requests when the pod started."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    outcome: str
    problem: str | None = None


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    revision: str | None = None
    models: tuple[_Model, ...] = ()
    verification: Verification | None = None


class PodStatus(BaseModel):
    """The part of a pod's status that a rollout looks at."""

    model_config = ConfigDict(frozen=True)

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    verification: Verification | None


class InvalidPodStatusError(ValueError):
    """The document is not the one of the contract."""


def parse_pod_status(text: str, served_name: str) -> PodStatus:
    """Read ``/status`` of a pod that is ready.

    Args:
        text: JSON.
        served_name: Name of the model whose signature is wanted.

    Raises:
        InvalidPodStatusError: It is no such document, or says nothing of the model.
    """
    try:
        document = _Document.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidPodStatusError(f"/status: {place}: {first['msg']}") from error
    model = next((model for model in document.models if model.name == served_name), None)
    if model is None:
        raise InvalidPodStatusError(f"/status: expected the model {served_name!r} among its models")
    return PodStatus(inputs=model.inputs, outputs=model.outputs, verification=document.verification)


def signature_change(stable: PodStatus, candidate: PodStatus) -> str | None:
    """Say in a sentence how the candidate's inputs and outputs differ from stable's.

    Args:
        stable: What a pod of stable says.
        candidate: What a pod of the candidate says.

    Returns:
        None when they are alike, as far as both say: a TorchScript file, for one, says nothing of its
        tensors. Their order does not count, since they have names.
    """
    changes = [
        *_changes("input", stable.inputs, candidate.inputs),
        *_changes("output", stable.outputs, candidate.outputs),
    ]
    return "; ".join(changes) or None


def _changes(kind: str, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> list[str]:
    if not before or not after:
        return []
    old = {tensor.name: tensor for tensor in before}
    new = {tensor.name: tensor for tensor in after}
    return [
        *(f"{kind} {name} is gone" for name in old if name not in new),
        *(f"{kind} {name} {tensor} is new" for name, tensor in new.items() if name not in old),
        *(
            f"{kind} {name} was {old[name]} and is {tensor}"
            for name, tensor in new.items()
            if name in old and old[name] != tensor
        ),
    ]
