"""Words for a whole rollout, as a user would tell it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from modelyard_operator.rollout.state import Rollout, RolloutState
from testkit.operator_rollout import Cluster, Quality, Simulation, ask_for, seconds

A, B, C = "fraud-a", "fraud-b", "fraud-c"


def served(
    *, replicas: int = 2, devices: int | None = None, autoscaled: bool = False, **rollout: Any
) -> Simulation:
    """A first revision that serves, and a log that begins now."""
    cluster = Cluster(devices=devices, autoscaled=autoscaled)
    sim = Simulation(ask_for(A, replicas=replicas, **rollout), cluster)
    sim.settle()
    sim.log.clear()
    return sim


def edited(sim: Simulation, target: str = B, *, quality: Quality = "good") -> Simulation:
    """Ask for another revision; ``quality`` is what it will turn out to be."""
    sim.quality[target] = quality
    sim.ask = replace(sim.ask, target=target)
    return sim


def until(sim: Simulation, reached: Callable[[Rollout], bool], pace: float = 2) -> Rollout:
    """Let the operator work, and pods get ready, until the rollout is there."""
    for _ in range(400):
        sim.reconcile()
        sim.cluster.run_pods(sim.asleep)
        rollout = sim.rollout
        assert rollout is not None
        if reached(rollout):
            return rollout
        sim.now += seconds(pace)
    raise AssertionError(f"never there: {sim.status}")


def in_state(state: RolloutState, weight: int | None = None) -> Callable[[Rollout], bool]:
    return lambda rollout: rollout.state is state and weight in {None, rollout.weight}


def told(sim: Simulation, verb: str, revision: str, number: int = 1) -> str:
    """Give a command; returns what is recorded of it."""
    sim.annotation = f"{verb}@{revision}#{number}"
    sim.reconcile()
    assert sim.rollout is not None
    assert sim.rollout.last_command is not None
    return sim.rollout.last_command.result


def end(sim: Simulation) -> Rollout:
    """Let everything happen that happens by itself."""
    sim.settle()
    assert sim.rollout is not None
    return sim.rollout
