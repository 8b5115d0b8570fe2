"""What a proxy lacks: it is said, nothing starts, and production does not notice."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pytest

from modelyard_operator.traffic.capabilities import CAPABILITIES
from testkit.cluster_api import Manifest, condition, revision_of
from testkit.cluster_lab import Lab
from testkit.cluster_proxies import GENERIC, PROFILES, Profile
from testkit.cluster_traffic import Load
from testkit.proofs import proves

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

CLASS: Final = "unmapped"
UNMAPPED: Final = Profile("Ingress/unmapped", "none", {"ingressClassName": CLASS}, falls_back=True)
"""Traefik, behind an IngressClass of which the operator knows nothing."""
STEPS: Final = {"steps": [{"weight": weight} for weight in (5, 25, 50, 100)]}
"""What is there by itself, and so nobody's wish."""
HEADER: Final = {"header": {"name": "X-Canary", "value": "always"}}
COOKIE: Final = {"cookie": {"name": "tester", "value": "always"}}
ASKS: Final[Mapping[str, tuple[Manifest, Manifest]]] = {
    "rollout.steps": (
        {"rollout": {"steps": [{"weight": 30}, {"weight": 100}]}},
        {"rollout": STEPS},
    ),
    "rollout.match[].header": ({"rollout": {"match": [HEADER]}}, {"rollout": {"match": None}}),
    "rollout.match[].cookie": ({"rollout": {"match": [COOKIE]}}, {"rollout": {"match": None}}),
    "rollout.stickiness": ({"rollout": {"stickiness": {}}}, {"rollout": {"stickiness": None}}),
    "exposure.timeoutSeconds": (
        {"exposure": {"timeoutSeconds": 60}},
        {"exposure": {"timeoutSeconds": None}},
    ),
    "exposure.tls": ({"exposure": {"tls": {"secretName": "x"}}}, {"exposure": {"tls": None}}),
    "exposure.backendTLS": (
        {"exposure": {"backendTLS": {"secretName": "x", "caConfigMapName": "x"}}},
        {"exposure": {"backendTLS": None}},
    ),
    "variants": (
        {"variants": [{"name": "b", "weight": 10, "model": {"uri": "s3://models/b"}}]},
        {"variants": None},
    ),
}
"""An edit that asks for a feature, and one that takes it back."""
CASES: Final = [
    pytest.param(
        profile, {name: ASKS[name] for name in lacks}, id=str(profile), marks=proves(*lacks)
    )
    for profile in (*PROFILES, GENERIC, UNMAPPED)
    if (lacks := [name for name, cell in CAPABILITIES[profile.known_as].items() if cell == "no"])
]


@pytest.mark.parametrize(("profile", "asks"), CASES)
def test_what_a_proxy_lacks_costs_production_nothing(
    lab: Lab, profile: Profile, asks: Mapping[str, Any]
) -> None:
    with _class(lab, profile), profile.bench(lab, "unsupported") as bench:
        served = profile.serve(bench, "fraud", rollout=STEPS)
        served.until_answered()
        stable = revision_of(served.get(), "stable")
        with Load(served.route) as load:
            load.until_answered_by(stable)
            for feature, (edit, undo) in asks.items():
                served.edit(**edit)
                served.edit_to(2)
                seen = served.until(lambda one, name=feature: name in _held(one))
                assert condition(seen, "FeaturesUnsupported")["status"] == "True"
                assert condition(seen, "Available")["status"] == "True"
                assert "candidate" not in seen["status"]
                served.edit_to(1)
                served.edit(**undo)
                served.until_ready()
            assert {sample.revision for sample in load.samples} == {stable}

            feature, (edit, _) = next(iter(asks.items()))
            served.edit(**edit)
            served.edit_to(2, exposure={"strict": False})
            seen = served.until_ready()
            assert feature in condition(seen, "FeaturesUnsupported")["message"]
            load.until_answered_by(revision_of(seen, "stable"))
        assert load.failed == []


def _held(model_deployment: Manifest) -> str:
    """Return what the newest edit is held back for; empty while it is not."""
    said = condition(model_deployment, "RoutesReady")
    newest = said["observedGeneration"] == model_deployment["metadata"]["generation"]
    held = newest and said["reason"] == "FeaturesUnsupported"
    return str(said["message"]) if held else ""


@contextmanager
def _class(lab: Lab, profile: Profile) -> Iterator[None]:
    """Lend the IngressClass that nobody has mapped, to the test that needs it."""
    if profile is not UNMAPPED:
        yield
        return
    body = {"metadata": {"name": CLASS}, "spec": {"controller": "k8s.io/ingress-nginx"}}
    lab.api.create("IngressClass", "", body)
    try:
        yield
    finally:
        lab.api.delete("IngressClass", "", CLASS)
