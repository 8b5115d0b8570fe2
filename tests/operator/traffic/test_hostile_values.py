"""Whatever somebody writes into an exposure, no object reaches beyond it.

A value either breaks a rule of the CRD, and never gets here, or is rendered. Then the objects are the
ModelDeployment's own, route only its hosts to its Services, and hold no text that a proxy would take
for configuration. ``HYPOTHESIS_PROFILE=chaos`` asks for many more values.
"""

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelyard_operator.rollout.routing import Backends
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.plan import GRPC_SERVICES, TrafficPlan
from modelyard_operator.traffic.proxy import GatewayView, resolve_proxy
from testkit.crd import object_schema, walk
from testkit.operator_objects import model_deployment, operator_settings

CHAOS = os.environ.get("HYPOTHESIS_PROFILE") == "chaos"
EXAMPLES = 10_000 if CHAOS else 100
FIELDS = dict(walk(object_schema(), ""))
EXPOSURE = ".spec.exposure"
PREFIX = "nginx.ingress.kubernetes.io/"
SERVICES = ("fraud-a", "fraud-b")
INJECTION = re.compile(r"[\x00-\x1f\x7f`${};\"'\\]")
"""What ends a value, or begins something else, in the configuration of some proxy."""
COOKIE_MATCH = re.compile(r"\^\(\.\*; \*\)\?[-A-Za-z0-9_]+=[-A-Za-z0-9_]+\(;\.\*\)\?\$")

FRAGMENTS = (
    *("a.x", "*.x", "bank.example.com", "fraud.example.com", "/", "/m", "//", "..", "~ ^/", "-"),
    *("\n", "\r\n", "`", "$", "${request_uri}", "{", "}", ";", '"', "'", "\\", "\x00", " ", "#"),
    *(") || Host(`bank.example.com`", "proxy_pass http://bank;", "return 200;", "always"),
    *(f"{PREFIX}server-alias", f"{PREFIX}configuration-snippet", f"{PREFIX}server-snippets"),
    *(
        f"{PREFIX}canary",
        f"{PREFIX}canary-weight",
        f"{PREFIX}auth-secret",
        f"{PREFIX}mirror-target",
    ),
    *(f"{PREFIX}default-backend", f"{PREFIX}rewrite-target", f"{PREFIX}proxy-body-size"),
    *("traefik.ingress.kubernetes.io/router.middlewares", "kubernetes.io/ingress.class"),
    *("modelyard.dev/applied-hash", "cert-manager.io/issuer", "bank/secret"),
)
PIN = ("X", "y")
texts = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=3).map("".join), st.text(max_size=40)
)


def _allows(path: str) -> Callable[[str], bool]:
    """Return the test that the CRD puts a string to: its pattern and the regular expressions in CEL."""
    schema = FIELDS[path]
    wanted = [schema["pattern"]] if "pattern" in schema else []
    refused: list[str] = []
    for rule in schema.get("x-kubernetes-validations", ()):
        found = re.fullmatch(r"(!?)self\.matches\('(.+)'\)", rule["rule"].strip())
        assert found, rule
        (refused if found[1] else wanted).append(found[2].replace("\\\\", "\\"))
    longest = schema["maxLength"]

    def allows(value: str) -> bool:
        # Go's $ is the end of the text, Python's also a place before a newline.
        matches = all(re.search(re.sub(r"\$$", r"\\Z", one), value) for one in wanted)
        return (
            matches
            and not any(re.search(one, value) for one in refused)
            and 0 < len(value) <= longest
        )

    return allows


def _key_refused() -> Callable[[str], bool]:
    rules = " ".join(
        rule["rule"] for rule in FIELDS[f"{EXPOSURE}.annotations"]["x-kubernetes-validations"]
    )
    patterns = re.findall(r"k\.matches\('(.+?)'\)", rules)
    prefixes = tuple(re.findall(r"k\.startsWith\('(.+?)'\)", rules))
    names = {name for group in re.findall(r"k in \[(.+?)\]", rules, re.DOTALL)
             for name in re.findall(r"'(.+?)'", group)}  # fmt: skip
    names |= set(re.findall(r"'([^']+)' in self", rules))
    assert len(patterns) == 2
    assert len(prefixes) == 2
    assert len(names) >= 9

    def refused(key: str) -> bool:
        return (
            key in names or key.startswith(prefixes) or any(re.search(one, key) for one in patterns)
        )

    return refused


HOST = _allows(f"{EXPOSURE}.hosts[]")
PATH = _allows(f"{EXPOSURE}.path")
HEADER_NAME = _allows(".spec.rollout.match[].header.name")
HEADER_VALUE = _allows(".spec.rollout.match[].header.value")
COOKIE_NAME = _allows(".spec.rollout.match[].cookie.name")
COOKIE_VALUE = _allows(".spec.rollout.match[].cookie.value")
STICKY_NAME = _allows(".spec.rollout.stickiness.cookie")
KEY_REFUSED = _key_refused()
ANNOTATION = _allows(f"{EXPOSURE}.annotations.*")


def render(dialect: str, exposure: dict[str, Any], rollout: dict[str, Any]) -> list[dict[str, Any]]:
    names: dict[str, Any] = {"dialect": dialect, "ingressClassName": "nginx"}
    if dialect == "Gateway":
        names["gatewayRef"] = {"name": "public", "namespace": "infra"}
    owner = model_deployment(exposure=exposure | names, rollout=rollout)
    view = GatewayView(profile="envoy-gateway")
    proxy = resolve_proxy(owner.spec.exposure, operator_settings(), gateway=view)
    pair = Backends(*SERVICES, 25)
    asked = owner.spec.rollout
    plan = TrafficPlan(owner.spec.exposure, proxy, pair, asked.match, stickiness=asked.stickiness)
    return render_routes(owner, plan)


def check(objects: list[dict[str, Any]], hosts: list[str], path: str) -> None:
    assert len(objects) in {2, 4}
    for one in objects:
        metadata = one["metadata"]
        assert metadata["namespace"] == "ml"
        assert metadata["name"] in {"fraud", "fraud-canary", "fraud.grpc", "fraud.grpc-canary"}
        assert metadata["ownerReferences"][0]["uid"] == "uid-fraud"
        for key, value in metadata.get("annotations", {}).items():
            assert not key.endswith(("snippet", "snippets", "server-alias", "-secret")), key
            assert not re.search(r"[\x00-\x1f\x7f`$]", value), (key, value)
        for text in _strings(one["spec"]):
            if COOKIE_MATCH.fullmatch(text):
                continue  # ours, around a name and a value that mean themselves
            assert not INJECTION.search(text), text
    check_targets(objects, hosts, path)


def check_targets(objects: list[dict[str, Any]], hosts: list[str], path: str) -> None:
    """Hosts, paths and Services are those of the ModelDeployment, and no others."""
    for one in objects:
        match one["kind"]:
            case "Ingress":
                rules = one["spec"]["rules"]
                assert [rule["host"] for rule in rules] == hosts
                paths = [each for rule in rules for each in rule["http"]["paths"]]
                wanted = set(GRPC_SERVICES) if ".grpc" in one["metadata"]["name"] else {path}
                assert {each["path"] for each in paths} == wanted
                assert {each["backend"]["service"]["name"] for each in paths} <= set(SERVICES)
                canary = one["metadata"]["name"].endswith("-canary")
                keys = one["metadata"]["annotations"]
                assert any(key.startswith(f"{PREFIX}canary") for key in keys) is canary
            case "HTTPRoute":
                assert one["spec"]["hostnames"] == hosts
                rules = one["spec"]["rules"]
                refs = [ref for rule in rules for ref in rule["backendRefs"]]
                assert {ref["name"] for ref in refs} <= set(SERVICES)
                assert all("namespace" not in ref and "kind" not in ref for ref in refs)
                found = {each["path"]["value"] for rule in rules for each in rule["matches"]}
                assert found == {path} | (set(GRPC_SERVICES) if path == "/" else set())
                assert all("filters" not in rule for rule in rules)
            case "BackendTrafficPolicy":
                (target,) = one["spec"]["targetRefs"]
                assert target["name"] == "fraud"
            case kind:
                raise AssertionError(f"a {kind} has no place among routes")


def _strings(value: Any) -> list[str]:
    match value:
        case dict():
            return [text for child in value.values() for text in _strings(child)]
        case list():
            return [text for child in value for text in _strings(child)]
        case str():
            return [value]
    return []


@pytest.mark.timeout(0 if CHAOS else 60)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=not CHAOS, database=None)
@given(
    dialect=st.sampled_from(["Ingress", "Gateway"]),
    host=st.one_of(texts, st.just("fraud.example.com")),
    path=st.one_of(texts, st.just("/m")),
    header=st.tuples(st.one_of(texts, st.just("X-Canary")), st.one_of(texts, st.just("always"))),
    cookie=st.tuples(st.one_of(texts, st.just("kept")), st.one_of(texts, st.just("always"))),
    annotation=st.tuples(texts, texts),
)
@example("Ingress", "a.x", "/", PIN, PIN, (f"{PREFIX}server-alias", "bank.example.com"))
@example("Ingress", "a.x", "/", PIN, PIN, ("example.com/team", "risk\n}"))
@example("Gateway", "a.x\nbank.example.com", "/", PIN, PIN, ("a", "b"))
@example("Gateway", "a.x", "/$(x)", ("X", "y`"), ("k", ".*"), ("a", "b"))
@example("Gateway", "a.x", "/", PIN, ("k|.*", "y"), ("a", "b"))
def test_no_value_reaches_beyond_its_own_route(
    dialect: str,
    host: str,
    path: str,
    header: tuple[str, str],
    cookie: tuple[str, str],
    annotation: tuple[str, str],
) -> None:
    hosts = [host] if HOST(host) else ["fraud.example.com"]
    path = path if PATH(path) else "/"
    pin = {"name": header[0], "value": header[1]}
    match = [{"header": pin}] if HEADER_NAME(header[0]) and HEADER_VALUE(header[1]) else []
    if COOKIE_NAME(cookie[0]) and COOKIE_VALUE(cookie[1]):
        match.append({"cookie": {"name": cookie[0], "value": cookie[1]}})
    sticky = {"stickiness": {"cookie": cookie[0]}} if STICKY_NAME(cookie[0]) else {}
    key, value = annotation
    annotations = {key: value} if ANNOTATION(value) and not KEY_REFUSED(key) else {}
    exposure = {"hosts": hosts, "path": path, "annotations": annotations}
    check(render(dialect, exposure, {"match": match, **sticky}), hosts, path)


def test_honest_values_pass_the_rules() -> None:
    """Else the property would hold because nothing is ever rendered."""
    assert HOST("fraud.example.com")
    assert HOST("*.example.com")
    assert PATH("/models/fraud-1.0~a")
    assert HEADER_NAME("X-Canary")
    assert HEADER_VALUE("always")
    assert COOKIE_NAME("tester-1")
    assert COOKIE_VALUE("b_2")
    assert STICKY_NAME("modelyard-revision")
    assert ANNOTATION("letsencrypt")
    assert not KEY_REFUSED("cert-manager.io/cluster-issuer")
    assert not KEY_REFUSED(f"{PREFIX}limit-rps")
