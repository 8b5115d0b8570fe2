"""Tiny models, and the manifests that serve them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Manifest = dict[str, Any]

SECRET: Final = "s3-credentials"  # noqa: S105 -- the name of a Secret
ENDPOINT: Final = "http://s3.s3.svc.cluster.local:9000"
FEATURES: Final = 4
OUTPUTS: Final = 2
HUNGRY_BYTES: Final = 2 << 30


def linear_model(version: int) -> bytes:
    """Return a model whose every output is `version` times the sum of its four inputs."""
    weights = np.full((FEATURES, OUTPUTS), version, dtype=np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _model([node], [numpy_helper.from_array(weights, "w")])


def roots_model() -> bytes:
    """Return a model that takes no negative numbers: it answers NaN, as a logarithm would."""
    weights = np.ones((FEATURES, OUTPUTS), dtype=np.float32)
    nodes = [
        helper.make_node("Sqrt", ["x"], ["roots"]),
        helper.make_node("MatMul", ["roots", "w"], ["y"]),
    ]
    return _model(nodes, [numpy_helper.from_array(weights, "w")])


def swayed_model() -> bytes:
    """Return a model that works, and prefers the other one of its two outputs."""
    weights = np.array([[1, 2]] * FEATURES, dtype=np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _model([node], [numpy_helper.from_array(weights, "w")])


def wide_model() -> bytes:
    """Return a model that works, and answers three numbers instead of two."""
    weights = np.ones((FEATURES, OUTPUTS + 1), dtype=np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _model([node], [numpy_helper.from_array(weights, "w")], outputs=OUTPUTS + 1)


def hungry_model() -> bytes:
    """Return a small file whose first inference needs 2 GiB."""
    size = numpy_helper.from_array(np.array([HUNGRY_BYTES // 4], dtype=np.int64), "size")
    weights = numpy_helper.from_array(np.ones((FEATURES, OUTPUTS), dtype=np.float32), "w")
    one = numpy_helper.from_array(np.ones(1, dtype=np.float32), "one")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["small"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        helper.make_node("ReduceMax", ["ones"], ["top"], keepdims=0),
        helper.make_node("Mul", ["small", "top"], ["y"]),
    ]
    return _model(nodes, [size, weights, one])


def _model(nodes: list[Any], weights: list[Any], *, outputs: int = OUTPUTS) -> bytes:
    shape: list[str | int | None] = ["rows", FEATURES]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", outputs])],
        initializer=weights,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def write_artifacts(folder: Path) -> None:
    """Write everything that the tests serve, or fail to serve, as it is to lie in the bucket."""
    for version in range(1, 10):
        _write(folder / f"v{version}" / "model.onnx", linear_model(version))
    _write(folder / "garbage" / "model.onnx", b"not a model")
    _write(folder / "unknown" / "weights.bin", b"of no known format")
    _write(folder / "roots" / "model.onnx", roots_model())
    _write(folder / "swayed" / "model.onnx", swayed_model())
    _write(folder / "wide" / "model.onnx", wide_model())
    _write(folder / "hungry" / "model.onnx", hungry_model())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def model_deployment(name: str, prefix: str, *, hosts: tuple[str, ...], **spec: Any) -> Manifest:
    """Return a ModelDeployment of version 1 with fast rollouts; `spec` is merged over it.

    Args:
        name: Name of the object and of the model.
        prefix: Where the artifacts lie: `s3://bucket/folder`.
        hosts: Hosts of its route; none for no route.
        spec: Fields of the spec that differ.
    """
    base: Manifest = {
        "model": {**version(prefix, 1), "format": "ONNX", "endpointURL": ENDPOINT}
        | {"credentialsSecretRef": {"name": SECRET}},
        "runtime": {"timeouts": {"drainSeconds": 10}, "concurrency": {"threads": 1}},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "rollout": {
            "bakeSeconds": 1,
            "steps": [{"weight": 50}, {"weight": 100}],
            "probationSeconds": 0,
            # A test's few requests are no evidence, and would be waited for.
            "analysis": {"metrics": []},
        },
    }
    if hosts:
        base["exposure"] = {"hosts": list(hosts), "ingressClassName": "nginx"}
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": merge(base, spec),
    }


def version(prefix: str, number: int) -> Manifest:
    """Return the fields of `spec.model` that change with its version."""
    return {"uri": f"{prefix}/v{number}", "version": str(number)}


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> Manifest:
    """Merge as a JSON merge patch does."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = merge(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged
