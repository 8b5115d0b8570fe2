import re
from typing import Any

import pytest

from modelyard_operator.rollout.routing import Backends
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.gateway import read_http_route
from modelyard_operator.traffic.gateway_rules import REQUEST_TIMEOUT
from modelyard_operator.traffic.plan import GRPC_SERVICES, NO_ROUTES, TrafficPlan
from modelyard_operator.traffic.proxy import GatewayView, resolve_proxy
from testkit.operator_objects import (
    accepted,
    by_kind,
    live,
    model_deployment,
    operator_settings,
)

Manifest = dict[str, Any]

REF = {"name": "public", "namespace": "infra", "sectionName": "https"}
EXPOSURE = {"hosts": ["a.x", "b.x"], "path": "/m", "dialect": "Gateway", "gatewayRef": REF}
PAIR = Backends("fraud-a", "fraud-b", 25)
MATCH = [{"header": {"name": "X-Canary", "value": "always"}}]


def render(
    backends: Backends = PAIR,
    *,
    view: GatewayView | None = None,
    match: Any = (),
    variants: Any = (),
    sticky: bool = False,
    **exposure: Any,
) -> list[Manifest]:
    rollout = {"match": match} | ({"stickiness": {}} if sticky else {})
    owner = model_deployment(exposure=EXPOSURE | exposure, rollout=rollout)
    view = view or GatewayView(profile="envoy-gateway")
    proxy = resolve_proxy(owner.spec.exposure, operator_settings(), gateway=view)
    asked = owner.spec.rollout
    plan = TrafficPlan(
        owner.spec.exposure,
        proxy,
        backends,
        asked.match,
        dict(variants),
        asked.stickiness,
    )
    return render_routes(owner, plan)


def read(*objects: Manifest) -> Any:
    return read_http_route("fraud", by_kind(objects))


def test_one_route_carries_the_weights() -> None:
    _, route = render()
    assert route["spec"]["parentRefs"] == [REF]
    assert route["spec"]["hostnames"] == ["a.x", "b.x"]
    (rule,) = route["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/m"}}]
    assert rule["backendRefs"] == [
        {"name": "fraud-a", "port": 80, "weight": 750},
        {"name": "fraud-b", "port": 80, "weight": 250},
    ]


@pytest.mark.parametrize(
    ("backends", "again"),
    [
        (Backends("a"), Backends("a")),
        (PAIR, PAIR),
        (Backends("a", "b", 0), Backends("a", "b", 0)),
        (Backends("a", "b", 100), Backends("a", "b", 100)),
        (Backends("b", "b", 100), Backends("b")),
    ],
)
def test_the_weights_are_read_back(backends: Backends, again: Backends) -> None:
    """Where both would name one revision there is one, which reads as all of the traffic."""
    for match in ((), MATCH):
        _, route = render(backends, match=match)
        found = read(accepted(route))
        assert (found.backends, found.problem) == (again, None)


def test_variants_follow_the_pair_and_leave_it_readable() -> None:
    variants = {"fraud-v": 10, "fraud-w": 30}
    _, route = render(match=MATCH, variants=variants)
    main, pinned = route["spec"]["rules"]
    assert [(ref["name"], ref["weight"]) for ref in main["backendRefs"]] == [
        ("fraud-a", 450),
        ("fraud-b", 150),
        ("fraud-v", 100),
        ("fraud-w", 300),
    ]
    assert [ref["name"] for ref in pinned["backendRefs"]] == ["fraud-b"]
    found = read(accepted(route))
    assert (found.backends, found.variants) == (PAIR, variants)
    _, alone = render(Backends("fraud-a"), variants=variants)
    assert read(accepted(alone)).backends == Backends("fraud-a")
    assert read(accepted(alone)).variants == variants


def test_without_a_candidate_pins_lead_to_variants_as_well() -> None:
    _, route = render(Backends("fraud-a"), match=MATCH, sticky=True, variants={"fraud-v": 10})
    main, *others = route["spec"]["rules"]
    assert [ref["name"] for ref in main["backendRefs"]] == ["fraud-a", "fraud-v"]
    assert [rule["backendRefs"] for rule in others] == [main["backendRefs"]] * 2


def test_a_variant_that_was_taken_off_by_hand_has_no_share() -> None:
    _, route = render(variants={"fraud-v": 10})
    del route["spec"]["rules"][0]["backendRefs"][-1]
    found = read(accepted(route))
    assert (found.backends, found.variants) == (PAIR, {})


def test_testers_reach_the_canary_whatever_its_weight() -> None:
    for weight in (0, 25, 100):
        _, route = render(Backends("fraud-a", "fraud-b", weight), match=MATCH)
        main, pinned = route["spec"]["rules"]
        assert pinned["matches"] == [
            {
                "path": {"type": "PathPrefix", "value": "/m"},
                "headers": [{"name": "X-Canary", "value": "always"}],
            }
        ]
        # With a weight of 0 as its only backend the rule would drop its requests.
        assert pinned["backendRefs"] == [{"name": "fraud-b", "port": 80, "weight": 1000}]
        assert main["backendRefs"][1]["weight"] == 10 * weight
    alone = render(Backends("fraud-a"), match=MATCH)[-1]["spec"]["rules"]
    assert [rule["backendRefs"][0]["name"] for rule in alone] == ["fraud-a", "fraud-a"]


COOKIES = (
    ("kept=always", True),
    ("a=b; kept=always; c=d", True),
    ("a=b;kept=always", True),
    ("kept=always-not", False),
    ("unkept=always", False),
    ("a=kept=always", False),
    ("kept=never; a=always", False),
)


@pytest.mark.parametrize(("header", "matches"), COOKIES)
def test_a_cookie_is_found_among_others(header: str, matches: bool) -> None:  # noqa: FBT001
    _, route = render(match=[{"cookie": {"name": "kept", "value": "always"}}])
    pinned = route["spec"]["rules"][1]
    (header_match,) = pinned["matches"][0]["headers"]
    assert (header_match["type"], header_match["name"]) == ("RegularExpression", "Cookie")
    for search in (re.fullmatch, re.search):  # Envoy does the one, Traefik the other
        assert bool(search(header_match["value"], header)) is matches


def test_either_pin_reaches_the_candidate() -> None:
    match = [*MATCH, {"cookie": {"name": "tester", "value": "b"}}]
    pinned = render(match=match)[-1]["spec"]["rules"][1]
    assert [one["headers"][0]["name"] for one in pinned["matches"]] == ["X-Canary", "Cookie"]
    view = GatewayView("generic")
    pinned = render(match=match, view=view)[-1]["spec"]["rules"][1]
    assert [one["headers"][0]["name"] for one in pinned["matches"]] == ["X-Canary"]
    rules = render(match=match[1:], view=view)[-1]["spec"]["rules"]
    assert [rule["name"] for rule in rules] == ["main"]


def test_clients_keep_the_revision_that_has_answered_them() -> None:
    main, pinned, kept = render(match=MATCH, sticky=True)[-1]["spec"]["rules"]
    header, cookie = (one["headers"][0] for one in pinned["matches"])
    assert header["name"] == "X-Canary", "a pin comes first"
    assert "modelyard-revision-b=always" in cookie["value"]
    assert pinned["backendRefs"] == [{"name": "fraud-b", "port": 80, "weight": 1000}]
    assert "modelyard-revision-b=never" in kept["matches"][0]["headers"][0]["value"]
    assert kept["backendRefs"] == [{"name": "fraud-a", "port": 80, "weight": 1000}]
    assert main["name"] == "main"


@pytest.mark.parametrize(
    ("backends", "everybody"),
    [
        (Backends("fraud-a"), "fraud-a"),
        (Backends("fraud-a", "fraud-b", 0), "fraud-a"),
        (Backends("fraud-a", "fraud-b", 100), "fraud-b"),
        (Backends("fraud-b", "fraud-b", 100), "fraud-b"),
    ],
)
def test_nobody_is_held_to_a_revision_that_has_no_share(backends: Backends, everybody: str) -> None:
    main, *rules = render(backends, sticky=True)[-1]["spec"]["rules"]
    asked = [ref["name"] for ref in main["backendRefs"] if ref["weight"]]
    assert (asked, [rule["name"] for rule in rules]) == ([everybody], ["pinned", "kept"])
    assert all(rule["backendRefs"] == main["backendRefs"] for rule in rules)
    pinned, kept = render(backends, sticky=True, match=MATCH)[-1]["spec"]["rules"][1:]
    assert [match["headers"][0]["name"] for match in pinned["matches"]] == ["X-Canary"]
    assert kept["backendRefs"] == main["backendRefs"]


def rule_names(backends: Backends, **exposure: Any) -> list[str]:
    rendered = render(backends, match=MATCH, sticky=True, path="/", **exposure)
    (route,) = (one for one in rendered if one["kind"] == "HTTPRoute")
    return [rule["name"] for rule in route["spec"]["rules"]]


@pytest.mark.parametrize("auth", ["None", "APIKey"])
def test_no_rule_comes_or_goes_or_takes_the_position_of_another(auth: str) -> None:
    """The old routes would ask what stands there now, or nobody, or speak the wrong protocol."""
    life = [
        Backends("fraud-a"),
        *(Backends("fraud-a", "fraud-b", weight) for weight in (0, 1, 50, 100)),
        Backends("fraud-b", "fraud-b", 100),
        Backends("fraud-b"),
    ]
    first, *others = [rule_names(one, auth={"type": auth}) for one in life]
    assert {"pinned", "kept", "grpc-pinned", "grpc-kept"} < set(first)
    assert all(one == first for one in others)


def test_grpc_has_the_same_shares_and_pins_as_http() -> None:
    _, route = render(path="/", match=MATCH)
    rules = route["spec"]["rules"]
    assert [rule["name"] for rule in rules] == ["main", "grpc-main", "pinned", "grpc-pinned"]
    http, grpc = rules[::2], rules[1::2]
    for ours, theirs in zip(http, grpc, strict=True):
        assert theirs["backendRefs"] == [ref | {"port": 8081} for ref in ours["backendRefs"]]
        (header,) = (one.get("headers") for one in ours["matches"])
        assert [one["path"]["value"] for one in theirs["matches"]] == [*GRPC_SERVICES]
        assert [one.get("headers") for one in theirs["matches"]] == [header, header]
        assert ours["timeouts"] == theirs["timeouts"]
    assert read(accepted(route)).backends == PAIR


@pytest.mark.parametrize(
    ("profile", "features", "path", "speaks"),
    [
        ("traefik", set(), "/", True),
        ("generic", set(), "/", False),
        ("generic", {"HTTPRouteBackendProtocolH2C"}, "/", True),
        ("traefik", set(), "/m", False),
    ],
)
def test_grpc_is_routed_where_it_can_be(
    profile: Any, features: Any, path: str, speaks: Any
) -> None:
    route = render(view=GatewayView(profile, frozenset(features)), path=path)[-1]
    assert any(rule["name"] == "grpc-main" for rule in route["spec"]["rules"]) is speaks


def test_envoy_cuts_no_stream_that_talks() -> None:
    policy, route = render(timeoutSeconds=7, match=MATCH)
    assert [rule["timeouts"] for rule in route["spec"]["rules"]] == [{"request": "0s"}] * 2
    assert policy["spec"]["targetRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "fraud"}
    ]
    assert policy["spec"]["timeout"] == {
        "http": {"requestTimeout": "0s", "streamIdleTimeout": "7s"}
    }


@pytest.mark.parametrize("profile", ["traefik", "generic"])
def test_other_proxies_get_the_core_and_what_they_say_they_have(profile: Any) -> None:
    (route,) = render(view=GatewayView(profile))
    assert "timeouts" not in route["spec"]["rules"][0]
    (route,) = render(view=GatewayView(profile, features=frozenset({REQUEST_TIMEOUT})))
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s"}


@pytest.mark.parametrize(
    ("backends", "view", "exposure", "number"),
    [
        (Backends(), None, {}, 0),
        (PAIR, GatewayView(absent=frozenset({"HTTPRoute"})), {}, 0),
        (PAIR, GatewayView("envoy-gateway", absent=frozenset({"BackendTrafficPolicy"})), {}, 1),
        (PAIR, None, {"gatewayRef": None}, 0),
        (PAIR, None, {"hosts": []}, 0),
        (Backends("fraud-a"), None, {}, 2),
    ],
)
def test_how_many_there_are(backends: Backends, view: Any, exposure: Any, number: int) -> None:
    assert len(render(backends, view=view, **exposure)) == number


def test_annotations_of_the_user_are_the_route_s() -> None:
    policy, route = render(annotations={"example.com/team": "risk"})
    assert route["metadata"]["annotations"] == {"example.com/team": "risk"}
    assert "annotations" not in policy["metadata"]


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [{"name": "other", "backendRefs": [{"name": "fraud-a"}]}],
        [{"name": "main"}],
        [{"name": "main", "backendRefs": [{"name": "fraud-a", "weight": 0}]}],
        [{"name": "main", "backendRefs": [{"name": one, "weight": 50} for one in "abc"]}],
        [{"name": "main", "backendRefs": [{"name": one, "weight": 0} for one in "ab"]}],
    ],
)
def test_a_route_of_another_shape_names_nobody(rules: Any) -> None:
    _, route = render()
    route["spec"]["rules"] = rules
    assert read(accepted(route)).backends == Backends()


def test_a_route_that_was_detached_is_not_in_place() -> None:
    _, route = render()
    said = accepted(route)
    said["spec"]["parentRefs"] = []
    assert read(said).problem.reason == "RouteNotAccepted"


def test_without_a_route_there_is_nothing_to_read() -> None:
    assert read() == NO_ROUTES


def test_a_route_counts_once_its_gateway_has_taken_it_over() -> None:
    _, route = render()
    silent = read(live(route)).problem
    assert silent.reason == "RouteNotAccepted"
    assert "Gateway infra/public has not answered to HTTPRoute fraud" in silent.message
    late = accepted(route)
    late["metadata"]["generation"] = 2
    assert read(late).problem.reason == "RoutePending"
    refused = accepted(
        route, status="False", reason="NotAllowedByListeners", message="no such host"
    )
    problem = read(refused).problem
    assert problem.reason == "RouteNotAccepted"
    assert problem.message == "HTTPRoute fraud: NotAllowedByListeners: no such host"
    unresolved = accepted(route)
    unresolved["status"]["parents"][0]["conditions"][1]["status"] = "False"
    assert read(unresolved).problem.reason == "RouteNotAccepted"
    unresolved["status"]["parents"][0]["conditions"].pop()
    assert read(unresolved).problem.reason == "RoutePending"


def test_only_the_word_of_the_gateway_that_was_asked_counts() -> None:
    _, route = render()
    for changes in ({"name": "other"}, {"namespace": "ml"}, {"sectionName": "http"}):
        said = accepted(route)
        parent = said["status"]["parents"][0]
        parent["parentRef"] = parent["parentRef"] | changes
        assert read(said).problem is not None, changes
    (_, near) = render(gatewayRef={"name": "public"})
    said = accepted(near)
    said["status"]["parents"][0]["parentRef"]["namespace"] = "ml"  # what is left out is the own one
    assert read(said).problem is None


def test_one_of_two_controllers_is_enough() -> None:
    _, route = render()
    said = accepted(route)
    other = accepted(route, status="False")["status"]["parents"][0]
    said["status"]["parents"].insert(0, other)
    assert read(said).problem is None
