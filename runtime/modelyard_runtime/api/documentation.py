"""``/openapi.json``, and ``/docs`` as one page that needs no other host.

FastAPI's own page fetches its script from a CDN, which neither an air-gapped cluster nor a strict
proxy lets it have; a packaged copy of that script is larger than the rest of the runtime. So the page
is plain HTML: every operation with its description, its schemas and a line for ``curl``.
"""

from __future__ import annotations

import copy
import functools
import html
import json
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import yaml
from fastapi import APIRouter, Response

from modelyard_runtime import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelyard_runtime.service import Service

Document = dict[str, Any]

_VERSION_PARAMETER: Final = {"$ref": "#/components/parameters/Version"}
_SECURITY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
details{border:1px solid #8884;border-radius:4px;margin:.4rem 0;padding:.4rem .8rem}
summary{cursor:pointer}
summary b{display:inline-block;width:3.5rem}
pre{background:#8881;padding:.6rem;overflow:auto;font-size:.85rem}
td{vertical-align:top;padding:.1rem 1rem .1rem 0}
"""


def build_documentation_router(service: Service) -> APIRouter:
    """Build the routes for people and generators of clients.

    Args:
        service: Whose path prefix is told.

    Returns:
        Routes for ``/openapi.json`` and ``/docs``.
    """
    router = APIRouter()

    # Plain functions run in a thread: reading the file takes a while the first time.
    @router.get("/openapi.json")
    def description() -> Response:
        """Describe every route in OpenAPI."""
        document = build_document(service.directives.current.path_prefix)
        return Response(json.dumps(document), media_type="application/json")

    @router.get("/docs")
    def page() -> Response:
        """Describe every route to people."""
        document = build_document(service.directives.current.path_prefix)
        return Response(
            render_page(document),
            media_type="text/html",
            headers={"content-security-policy": _SECURITY},
        )

    return router


def build_document(prefix: str = "") -> Document:
    """Describe the routes.

    Args:
        prefix: What comes before every path, as callers see it.

    Returns:
        An OpenAPI 3.1 document.
    """
    document = {**_document()}
    document["servers"] = [{"url": prefix or "/"}]
    return document


def render_page(document: Document) -> str:
    """Write the page.

    Args:
        document: As ``build_document`` gives it.

    Returns:
        HTML without scripts and without references to other hosts.
    """
    info = document["info"]
    title = html.escape(f"{info['title']} {info['version']}")
    sections = []
    for tag in document["tags"]:
        operations = "".join(
            _operation(document, path, method, operation)
            for path, method, operation in _operations(document)
            if tag["name"] in operation["tags"]
        )
        sections.append(
            f"<h2>{html.escape(tag['name'])}</h2><p>{html.escape(tag['description'])}</p>{operations}"
        )
    schemas = "".join(
        f"<details id={name}><summary><code>{name}</code></summary>{_code(schema)}</details>"
        for name, schema in document["components"]["schemas"].items()
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1><p>{html.escape(info['description'])}</p>"
        f'<p><a href="openapi.json">openapi.json</a></p>{"".join(sections)}'
        f"<h2>Schemas</h2>{schemas}</html>\n"
    )


@functools.cache
def _document() -> Document:
    text = resources.files(__package__).joinpath("openapi.yaml").read_text(encoding="utf-8")
    document: Document = yaml.safe_load(text)
    document["info"]["version"] = __version__
    del document["x-errors"]
    paths = {}
    for path, item in document["paths"].items():
        paths[path] = item
        if item.pop("x-versioned", False):
            twin = copy.deepcopy(item)
            twin["parameters"].append(_VERSION_PARAMETER)
            paths[path.replace("{model}", "{model}/versions/{version}")] = twin
    document["paths"] = paths
    return document


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def _operation(document: Document, path: str, method: str, operation: Document) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    rows = "".join(
        f"<tr><td>{status}<td>{html.escape(answer['description'])}"
        for status, answer in sorted(
            (status, _resolved(document, answer))
            for status, answer in operation["responses"].items()
        )
    )
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{html.escape(path)}</code> "
        f"{html.escape(operation['summary'])}</summary>"
        f"<p>{html.escape(operation.get('description', ''))}</p>"
        f"<pre>{html.escape(_curl(path, method, body))}</pre>"
        f"{_bodies('Request', body)}"
        f"{_bodies('Answer', operation['responses']['200'].get('content', {}))}"
        f"<table>{rows}</table></details>"
    )


def _resolved(document: Document, answer: Document) -> Document:
    reference = answer.get("$ref")
    if reference is None:
        return answer
    found: Document = document["components"]["responses"][reference.rpartition("/")[2]]
    return found


def _curl(path: str, method: str, body: Mapping[str, Any]) -> str:
    line = f"curl http://localhost:8080{path}"
    example = body.get("application/json", {}).get("example")
    if example is not None:
        return f"{line} -H 'content-type: application/json' -d '{json.dumps(example)}'"
    return f"{line} -X POST" if method == "post" else line


def _bodies(title: str, content: Mapping[str, Any]) -> str:
    return "".join(
        f"<p>{title}: <code>{kind}</code></p>{_code(media['schema'])}"
        for kind, media in content.items()
    )


def _code(schema: Document) -> str:
    return f"<pre>{html.escape(yaml.safe_dump(schema, sort_keys=False))}</pre>"
