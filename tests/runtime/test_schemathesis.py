"""Generated requests against the descriptions: ours, and the Open Inference Protocol's."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from modelyard_runtime.api.documentation import build_document
from testkit import runtime_models as models
from testkit.runtime_loops import serving_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis import APIOperation, Case

    from testkit.runtime_loops import ElsewhereApp

pytestmark = pytest.mark.slow

PATH: Final = {"model": "m", "version": "1", "MODEL_NAME": "m", "MODEL_VERSION": "1"}
OIP: Final = Path(__file__).parents[1] / "data" / "oip"
EXAMPLES: Final = 20
SCALAR: Final = {"type": ["number", "string", "boolean"]}


def operations_of(
    document: dict[str, Any], app: Any = None
) -> dict[str, APIOperation[Any, Any, Any, Any]]:
    schema = schemathesis.openapi.from_dict(document)
    schema.app = app
    found = list(schema.get_all_operations())
    assert all(isinstance(result, Ok) for result in found)
    return {r.ok().label: r.ok() for r in found if isinstance(r, Ok)}


def ours() -> dict[str, Any]:
    """Nest values two levels deep: generating them without an end is slow."""
    document = copy.deepcopy(build_document())
    schemas = document["components"]["schemas"]
    nested = {"anyOf": [SCALAR, {"type": "array", "items": SCALAR}]}
    schemas["TensorData"]["items"] = nested
    schemas["Values"]["anyOf"][1] = {"type": "array", "items": nested}
    return document


def theirs(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((OIP / name).read_text(encoding="utf-8"))
    return document


OURS: Final = ours()
INFER: Final = theirs("open_inference_rest.yaml")
GENERATE: Final = theirs("generate_rest.yaml")
CHECKS: Final = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElsewhereApp]:
    model = models.linear_onnx(tmp_path_factory.mktemp("m") / "m.onnx")
    with serving_elsewhere(model) as app:
        yield app


@pytest.fixture(scope="module")
def text_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElsewhereApp]:
    model = models.text_onnx(tmp_path_factory.mktemp("t") / "m.onnx")
    with serving_elsewhere(model) as app:
        yield app


@pytest.mark.parametrize("label", operations_of(OURS))
def test_our_own(app: ElsewhereApp, label: str) -> None:
    ask(
        operations_of(OURS, app)[label],
        [*CHECKS, status_code_conformance, response_headers_conformance],
    )


@pytest.mark.parametrize("label", operations_of(INFER))
def test_the_protocols(app: ElsewhereApp, label: str) -> None:
    ask(operations_of(INFER, app)[label], CHECKS)


@pytest.mark.parametrize("label", operations_of(GENERATE))
def test_the_protocols_for_text(text_app: ElsewhereApp, label: str) -> None:
    ask(operations_of(GENERATE, text_app)[label], [*CHECKS, status_code_conformance])


def ask(operation: APIOperation[Any, Any, Any, Any], checks: list[Any]) -> None:
    known = {p.name for p in operation.path_parameters}
    path = {name: value for name, value in PATH.items() if name in known}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # shrinking nested JSON takes minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(path_parameters=path))
    def run(case: Case[Any]) -> None:
        case.call_and_validate(checks=checks)

    run()
