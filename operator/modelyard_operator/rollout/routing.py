"""What the routes should look like in a state, and whether they do."""

from dataclasses import dataclass

from modelyard_operator.rollout.state import ACTIVE, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import FULL


@dataclass(frozen=True)
class Backends:
    """Which revisions the routes should name, and how much the second one gets."""

    primary: str | None = None
    canary: str | None = None
    weight: int = 0

    @property
    def whole(self) -> str | None:
        """The revision that gets everything; None while requests are divided."""
        if self.canary is None or self.canary == self.primary:
            return self.primary
        return self.canary if self.weight == FULL else None


def backends(rollout: Rollout, world: World, *, testers: bool = False) -> Backends:
    """Return what the routes should look like.

    A candidate without a ready pod gets nothing, whatever status says: the share it would get is
    answered by stable. While stable has no ready pod, the candidate answers everything.

    Args:
        rollout: The rollout as it stands.
        world: What the cluster shows.
        testers: Some requests go to the candidate whatever its weight, so that it has a route as
            soon as it can answer.
    """
    stable, candidate = rollout.stable, rollout.candidate
    if stable is None:
        return Backends()
    if rollout.state is RolloutState.PROMOTING and rollout.weight and world.canary is not None:
        # The canary route stays until every proxy has the primary's new backend.
        return Backends(primary=stable, canary=stable, weight=FULL)
    if rollout.state is RolloutState.ROLLING_BACK:
        return _homewards(rollout, world)
    serves = rollout.state in ACTIVE and world.ready.get(candidate or "", 0) > 0
    weight = rollout.weight if serves else 0
    if serves and stable_down(rollout, world):
        weight = FULL
    moved = weight == FULL and world.primary == candidate  # by a proxy that could not split then
    if (weight or (testers and serves)) and world.splits and not moved:
        return Backends(primary=stable, canary=candidate, weight=weight)
    return Backends(primary=candidate if weight == FULL else stable)


def confirmed(rollout: Rollout, world: World) -> bool:
    """Tell whether the routes give the candidate the weight that was written down."""
    weights = {rollout.stable: FULL - rollout.weight, rollout.candidate: rollout.weight}
    return world.followed and world.weights == {
        name: weight for name, weight in weights.items() if weight
    }


def stable_down(rollout: Rollout, world: World) -> bool:
    """Tell whether stable should serve, and cannot: none of its pods is ready."""
    stable = rollout.stable or ""
    return (
        not rollout.gave_all and world.replicas.get(stable, 0) > 0 and not world.ready.get(stable)
    )


def returns_to(rollout: Rollout) -> tuple[str, str]:
    """Return the revision that a rollback leads to, and the one that it leaves."""
    if rollout.previous is not None:
        return rollout.previous, rollout.stable or ""
    return rollout.stable or "", rollout.candidate or ""


def _homewards(rollout: Rollout, world: World) -> Backends:
    """Traffic comes home when somebody is there; until then the routes stay as they are."""
    home, left = returns_to(rollout)
    nobody = not world.ready.get(home) and world.replicas.get(home, 1) > 0 and not rollout.down
    if not (nobody and world.ready.get(left) and left in world.weights):
        return Backends(primary=home)
    return Backends(world.primary, world.canary, world.canary_weight)
