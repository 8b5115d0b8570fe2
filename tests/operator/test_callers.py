import json
from collections.abc import Mapping

import pytest

from modelyard_operator.callers import CALLERS_INTERVAL, Callers
from modelyard_operator.observed import Observed
from testkit.operator_objects import NOW, model_deployment, observe, pod, revision_of
from testkit.operator_pods import AnsweringPods

API_KEY = {"type": "APIKey"}
TOKENS = {"type": "JWT", "issuer": "https://id.example.com"}
FETCHED = TOKENS | {"jwksURI": "https://id.example.com/keys"}


class SayingPods(AnsweringPods):
    """Pods that all say the same of their keys."""

    def __init__(self, text: str | None) -> None:
        super().__init__()
        self.said = text

    async def read_pods(self, addresses: Mapping[str, str], path: str) -> dict[str, str]:
        self.asked.extend((address, path) for address in addresses.values())
        return {} if self.said is None else dict.fromkeys(addresses, self.said)


def _keys(principals: int = 0, *, jwks: bool = False) -> str:
    return json.dumps({"state": "Ready", "keys": {"principals": principals, "jwks": jwks}})


def _seen(auth: Mapping[str, str], *, ready: bool = True) -> Observed:
    owner = model_deployment(exposure={"auth": auth})
    return observe(owner, pod(revision_of(owner).name, ready=ready, podIP="10.0.0.1"))


@pytest.mark.parametrize(
    ("auth", "text", "locked"),
    [
        (API_KEY, _keys(0), True),
        (API_KEY, _keys(1), False),
        (API_KEY, _keys(0, jwks=True), True),
        (TOKENS, _keys(2), True),
        (TOKENS, _keys(0, jwks=True), False),
        (API_KEY, None, False),
        (API_KEY, '{"state": "Ready"}', False),
    ],
)
async def test_nobody_comes_in_without_a_key(
    auth: Mapping[str, str],
    text: str | None,
    locked: bool,  # noqa: FBT001
) -> None:
    assert await Callers(SayingPods(text)).locked_out(_seen(auth), NOW) is locked


@pytest.mark.parametrize("auth", [{"type": "None"}, FETCHED])
async def test_who_needs_no_secret_is_not_asked(auth: Mapping[str, str]) -> None:
    pods = SayingPods(_keys(0))
    assert not await Callers(pods).locked_out(_seen(auth), NOW)
    assert not await Callers(pods).locked_out(_seen(API_KEY, ready=False), NOW)
    assert pods.asked == []


async def test_a_burst_of_passes_asks_once() -> None:
    pods = SayingPods(_keys(0))
    callers = Callers(pods)
    for _ in range(3):
        assert await callers.locked_out(_seen(API_KEY), NOW)
    assert pods.asked == [("10.0.0.1", "/status")]
    pods.said = _keys(1)
    assert not await callers.locked_out(_seen(API_KEY), NOW + CALLERS_INTERVAL)
