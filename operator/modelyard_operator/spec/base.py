"""What every part of the custom resource is made of: the base class, scalars and references."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

Quantity = Annotated[str, BeforeValidator(str)]
"""A Kubernetes quantity; a YAML integer is taken as its text."""
Quantities = dict[str, Quantity]
Fraction = str
"""A number from 0 to 1 as text, since an object of Kubernetes holds no fractions otherwise."""

ModelFormat = Literal[
    "Auto", "TorchExport", "TorchScript", "TorchEager", "Safetensors", "ONNX",
    "Sklearn", "XGBoost", "LightGBM", "MLflow", "HuggingFace", "Custom",
]  # fmt: skip
"""Artifact formats that the runtime loads; Auto lets it look at the files."""


class Spec(BaseModel):
    """Base of every part: frozen, camelCase on the wire, unknown fields of a newer schema ignored."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )


class NameRef(Spec):
    """A reference to a Secret in the same namespace."""

    name: str


class KeyRef(Spec):
    """A reference to one key of a ConfigMap in the same namespace."""

    name: str
    key: str = "ca.crt"


class FileRef(Spec):
    """A key of a ConfigMap in the same namespace whose content becomes a file of the revision."""

    config_map_name: str
    key: str
