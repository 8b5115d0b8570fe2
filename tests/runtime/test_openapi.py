"""The description of the routes: complete, true, and readable without another host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute

from modelyard_runtime.api.documentation import build_document, render_page
from modelyard_runtime.api.health import build_router
from modelyard_runtime.api.problems import STATUS
from modelyard_runtime.api.repository import build_repository_router
from modelyard_runtime.api.routes import DataRoutes
from modelyard_runtime.api.v1 import build_v1_router
from modelyard_runtime.service import Service
from modelyard_runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from pathlib import Path

DATA = ("/infer", "/generate", "/generate_stream", ":predict")


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(RuntimeSettings(model_name="m", model_path=tmp_path))


def operations() -> dict[tuple[str, str], Any]:
    return {
        (path, method): operation
        for path, item in build_document()["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def is_data(path: str) -> bool:
    return path.endswith(DATA) or path.startswith("/predict/")


def test_every_route_is_described_and_no_other(service: Service) -> None:
    routers = (build_router, build_repository_router, build_v1_router)
    routed = {
        (route.path, method.lower())
        for build in routers
        for route in build(service).routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    described = {key for key in operations() if not is_data(key[0])}
    assert described == routed


def test_the_data_plane_is_described(service: Service) -> None:
    routes = DataRoutes(service)
    described = {path for path, _ in operations() if is_data(path)}
    assert len(described) == 2 * 5
    for path in described:
        scope = {"path": path.format(model="m", version="1")}
        endpoint = routes.find(scope)
        assert endpoint is not None, path
        assert type(endpoint).__name__ == "DataEndpoint"


def test_the_data_plane_may_answer_every_error() -> None:
    statuses = {str(status) for status in STATUS.values()} | {"200", "405"}
    for (path, _), operation in operations().items():
        if is_data(path):
            assert set(operation["responses"]) == statuses, path


def test_every_reference_leads_somewhere() -> None:
    document = build_document()
    references = re.findall(r"'\$ref': '#/([^']+)'", str(document))
    assert references
    for reference in references:
        node = document
        for part in reference.split("/"):
            node = node[part]


def test_the_page_needs_no_other_host() -> None:
    page = render_page(build_document())
    assert "<script" not in page
    assert re.findall(r"(?:src|href)=\"?([^\" >]+)", page) == ["openapi.json"]
    for path, _ in operations():
        assert f"<code>{path}</code>" in page


def test_the_prefix_is_the_servers_address() -> None:
    assert build_document()["servers"] == [{"url": "/"}]
    assert build_document("/team/fraud")["servers"] == [{"url": "/team/fraud"}]
