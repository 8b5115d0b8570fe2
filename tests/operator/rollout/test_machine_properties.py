"""The rollout machine against everything that can happen to it.

``HYPOTHESIS_PROFILE=chaos`` (``make chaos``) asks for many more runs, drawn at random.
"""

import os

import pytest

from testkit.operator_rollout_machine import CHAOS, explore

EXAMPLES = int(os.environ.get("MODELYARD_ROLLOUT_EXAMPLES") or (20_000 if CHAOS else 2_000))
QUICK = 150


@pytest.mark.timeout(600)
def test_rollouts_survive_what_happens_often() -> None:
    explore(QUICK)


@pytest.mark.slow
@pytest.mark.timeout(0 if CHAOS else 900)
def test_rollouts_survive_everything() -> None:
    explore(EXAMPLES)
