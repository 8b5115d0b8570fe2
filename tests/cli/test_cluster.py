"""Where the cluster is, and what its errors mean."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException

from modelyard_cli.cluster import Cluster, _is_model, _meaning
from modelyard_cli.errors import (
    ApiError,
    ForbiddenError,
    KubeconfigError,
    NotFoundError,
    UnreachableError,
)


def kubeconfig(folder: Path) -> Path:
    """A kubeconfig with two contexts, whose server does not answer."""
    file = folder / "config"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u"}},
            {"name": "two", "context": {"cluster": "c", "user": "u", "namespace": "serving"}},
        ],
    }
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("context", "asked", "namespace"),
    [(None, None, "default"), ("two", None, "serving"), ("two", "mine", "mine")],
)
def test_the_namespace_is_the_one_asked_for_or_the_contexts(
    tmp_path: Path, context: str | None, asked: str | None, namespace: str
) -> None:
    assert Cluster.connect(kubeconfig(tmp_path), context, asked).namespace == namespace


def test_without_a_cluster_it_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="no cluster to talk to") as missing:
        Cluster.connect(tmp_path / "none", None, None)
    assert "KUBECONFIG" in missing.value.hint
    with pytest.raises(KubeconfigError, match="three"):
        Cluster.connect(kubeconfig(tmp_path), "three", None)


def test_a_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="the API server does not answer"):
        Cluster.connect(kubeconfig(tmp_path), None, None).get("fraud")


def _error(status: int, body: str) -> ApiException:
    error = ApiException(status=status, reason="Reason")
    error.body = body
    return error


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (
            404,
            '{"kind":"Status","message":"\\"fraud\\" not found"}',
            NotFoundError,
            '"fraud" not found',
        ),
        (
            404,
            '{"kind":"Status","message":"the server could not find the requested resource"}',
            NotFoundError,
            "the cluster does not know ModelDeployments",
        ),
        (404, "404 page not found", NotFoundError, "the cluster does not know ModelDeployments"),
        (403, '{"message":"forbidden: user"}', ForbiddenError, "forbidden: user"),
        (401, '{"message":"Unauthorized"}', ForbiddenError, "Unauthorized"),
        (500, "oops", ApiError, "the API server answered 500 Reason"),
    ],
)
def test_what_an_answer_means(status: int, body: str, kind: type[Exception], message: str) -> None:
    found = _meaning(_error(status, body))
    assert type(found) is kind
    assert str(found) == message


def test_a_models_answer_is_told_from_the_api_servers_own() -> None:
    assert _is_model(_error(400, '{"error":"no such input","code":"invalid_input"}'))
    assert not _is_model(_error(503, '{"kind":"Status","message":"no endpoints available"}'))
    assert not _is_model(_error(502, "bad gateway"))


def test_a_watch_that_the_server_has_forgotten_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not change for minutes has a version that no watch can begin at."""
    cluster = Cluster.connect(kubeconfig(tmp_path), None, None)
    versions: list[str] = []

    def listed(_verb: str, path: str, **_query: Any) -> dict[str, Any]:
        version = str(100 + len(versions))
        if path.endswith("/fraud"):
            return {"metadata": {"resourceVersion": "7"}, "n": "first"}
        return {"metadata": {"resourceVersion": version}, "items": [{"n": f"listed at {version}"}]}

    def watched(*_: Any, resource_version: str, **_query: Any) -> Iterator[dict[str, Any]]:
        versions.append(resource_version)
        if len(versions) == 1:
            raise _error(410, '{"message":"too old resource version: 100 (900)"}')
        if len(versions) > 2:
            raise _error(403, '{"message":"forbidden: watch"}')
        yield {"type": "MODIFIED", "raw_object": {"n": "changed"}}
        yield {"type": "DELETED", "raw_object": {}}

    monkeypatch.setattr(cluster, "_json", listed)
    monkeypatch.setattr(cluster._client, "watch", watched)
    seen = cluster.watch("fraud")
    told = [one and one["n"] for one in itertools.islice(seen, 5)]
    assert told == ["first", "listed at 100", "listed at 101", "changed", None]
    with pytest.raises(ForbiddenError, match="forbidden: watch"):
        list(seen)
    assert versions == ["100", "101", "102"]
