"""A variant beside a rollout: it has its share of all requests, and none is lost when it changes."""

from typing import Any, Final

import pytest

from modelyard_operator.resources import labels
from testkit.cluster_api import Manifest, condition, revision_of
from testkit.cluster_lab import Lab, Served
from testkit.cluster_proxies import VARIANTS, WITH_GENERIC, Profile, ask_many, likely
from testkit.cluster_traffic import Load
from testkit.proofs import proves

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

REQUESTS: Final = 2_000
WEIGHT: Final = 20
STEP: Final = 25
"""Percent of what the variant leaves: a fifth of all requests as well."""
ROLLOUT: Final = {
    "steps": [{"weight": STEP, "pause": "Manual"}, {"weight": 100}],
    "bakeSeconds": 0,
    "analysis": {"minSamples": 1, "metrics": [{"name": "errors", "builtin": "Errors"}]},
}


@proves(VARIANTS)
@pytest.mark.parametrize("profile", WITH_GENERIC, ids=str)
def test_a_variant_has_its_share_whatever_the_rollout_does(
    lab: Lab, figures: dict[str, object], profile: Profile
) -> None:
    with profile.bench(lab, "variants") as bench:
        served = profile.serve(bench, "fraud", rollout=ROLLOUT)
        served.until_answered()
        stable = revision_of(served.get(), "stable")
        with Load(served.route, threads=2) as load:
            if VARIANTS in profile.lacks:
                _not_served(served, stable)
            else:
                counted = _beside_a_rollout(served, load, stable)
                figures[f"{profile}: of {REQUESTS} requests beside a variant"] = counted
        assert load.failed == []


def _beside_a_rollout(served: Served, load: Load, stable: str) -> dict[str, int]:
    """Go through the life of a variant; return who got what while a rollout waited."""
    _ask(served, 2)
    first = _until_serving(served)
    load.until_answered_by(first)
    alone = ask_many(served.route, REQUESTS)
    assert alone.keys() == {stable, first}
    assert alone[first] in likely(REQUESTS, WEIGHT)

    held = _until_held(served, 3)
    candidate = revision_of(held, "candidate")
    assert held["status"]["candidate"]["weight"] == STEP
    load.until_answered_by(candidate)
    three = ask_many(served.route, REQUESTS)
    assert three.keys() == {stable, candidate, first}
    assert three[first] in likely(REQUESTS, WEIGHT)
    assert three[candidate] in likely(REQUESTS, (100 - WEIGHT) * STEP // 100)
    _counted(served, first, alone[first] + three[first], load)

    _ask(served, 4)
    second = _until_serving(served, other_than=first)
    served.api.until_gone("Deployment", served.namespace, first)
    load.until_answered_by(second)

    _ask(served, 404)  # nothing is there
    broken = served.until(lambda seen: _variant(seen).get("message"))
    assert _variant(broken)["revision"] == second
    assert condition(broken, "Ready")["status"] == "False"
    load.until_answered_by(second)

    served.edit(variants=[])
    served.api.until_gone("Service", served.namespace, second)
    assert ask_many(served.route, 200).keys() == {stable, candidate}
    served.command(f"abort@{candidate}#1")
    served.until(lambda seen: "candidate" not in seen["status"])
    served.edit_to(1)  # what serves: nothing but the variant keeps it from being ready
    served.until_ready()

    _ask(served, 404)
    waits = served.until(lambda seen: condition(seen, "Ready").get("reason") == "VariantNotReady")
    assert _variant(waits)["weight"] == 0
    assert ask_many(served.route, 200).keys() == {stable}
    return {"stable": three[stable], "candidate": three[candidate], "variant": three[first]}


def _not_served(served: Served, stable: str) -> None:
    """Conditions tell; nothing runs, and production does not notice."""
    _ask(served, 2)
    seen = served.until(lambda seen: condition(seen, "FeaturesUnsupported").get("status") == "True")
    assert condition(seen, "Ready")["reason"] == "FeaturesUnsupported"
    assert condition(seen, "Available")["status"] == "True"
    assert VARIANTS in condition(seen, "FeaturesUnsupported")["message"]
    assert "variants" not in seen["status"]
    assert not [pod for pod in served.pods() if labels.VARIANT in pod["metadata"]["labels"]]
    assert ask_many(served.route, 200).keys() == {stable}


def _ask(served: Served, number: int) -> None:
    model = {"uri": f"{served.bench.lab.prefix}/v{number}", "version": str(number)}
    served.edit(variants=[{"name": "b", "weight": WEIGHT, "replicas": 1, "model": model}])


def _variant(seen: Manifest) -> dict[str, Any]:
    variants: list[dict[str, Any]] = seen["status"].get("variants") or [{}]
    return variants[0]


def _until_serving(served: Served, other_than: str = "") -> str:
    """Wait until the routes give a variant its weight; return its revision."""
    seen = served.until(
        lambda seen: (
            _variant(seen).get("weight") == WEIGHT
            and _variant(seen)["revision"] != other_than
            and "message" not in _variant(seen)
        )
    )
    return str(_variant(seen)["revision"])


def _until_held(served: Served, number: int) -> Manifest:
    served.edit_to(number)
    return served.until(lambda seen: seen["status"]["rollout"].get("pausedReason") == "Step")


def _counted(served: Served, revision: str, asked: int, load: Load) -> None:
    """The figures in status are of requests that were asked, and of no others."""

    def has_figures(seen: Manifest) -> bool:
        metrics = _variant(seen).get("comparison", {}).get("metrics", ())
        return any(one["variant"]["n"] >= asked // 2 for one in metrics)

    seen = served.until(has_figures)
    answered = asked + sum(one.revision == revision for one in load.samples)
    for one in _variant(seen)["comparison"]["metrics"]:
        assert one["variant"]["n"] <= answered, one
        assert one["stable"]["n"] > one["variant"]["n"], one
        assert (one["variant"]["bad"], one["stable"]["bad"]) == (0, 0), one
        assert float(one["eValue"]) <= 1, one
