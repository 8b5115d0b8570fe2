"""What must hold whenever the operator writes something: the invariants of the rollout machine.

Numbers in the messages are those of the list that the property tests go by.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from modelyard_operator.rollout.judgement import NO_TRAFFIC, Verdict
from modelyard_operator.rollout.sizing import needed
from modelyard_operator.rollout.state import ACTIVE, Ask, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import FULL, SETTLE

if TYPE_CHECKING:
    from testkit.operator_rollout import Cluster

SECOND: Final = timedelta(seconds=1)
S = RolloutState


@dataclass
class Checks:
    """Checks of single writes, and what they have to remember.

    Attributes:
        served_until: When each revision was last named by a route that this operator changed.
        unguarded: Revisions that came or went while the user wanted no pods, or a downtime.
        rollout_id: The rollout that is checked.
        reached: Largest weight that its candidate has been given.
    """

    served_until: dict[str, datetime] = field(default_factory=dict)
    unguarded: set[str | None] = field(default_factory=set)
    rollout_id: str | None = None
    reached: int = 0

    def seen(self, world: World, **evidence: Any) -> World:
        return replace(world, **evidence)

    def forget(self) -> None:
        self.served_until.clear()

    def a_step(
        self,
        ask: Ask,
        stored: Rollout | None,
        before: Rollout | None,
        after: Rollout,
        *,
        world: World,
        now: datetime,
    ) -> None:
        """Check what the machine made of a state."""
        if ask.replicas == 0 or after.down:
            self.unguarded |= {after.stable, after.candidate, after.previous}
        if stored is None or before is None:
            self._recovered(ask, after, world)
            return
        self._stable(ask, stored, after, world)
        begun = after.candidate and after.candidate != before.candidate
        if begun and after.state in ACTIVE:
            assert after.candidate not in before.rejected, "11: a rejected revision was retried"
        if before.state is S.ANALYZING and before is not after:
            self._passed(ask, before, after, world, now)

    def _recovered(self, ask: Ask, after: Rollout, world: World) -> None:
        kept = {world.primary, world.selected, None}
        assert after.stable in kept, "4: recovery invented a stable revision"
        lost = not ask.suspended and world.primary and after.stable != world.primary
        assert not lost, "4: recovery lost the stable revision"

    def _stable(self, ask: Ask, before: Rollout, after: Rollout, world: World) -> None:
        if after.stable == before.stable:
            return
        if after.stable is None:
            assert ask.suspended
        elif after.state is S.PROMOTING:
            assert before.state in ACTIVE
            assert world.weights == {after.stable: FULL}, "4: promoted before it was confirmed"
            assert after.previous == before.stable
        elif after.state is S.ROLLING_BACK:
            assert after.stable == before.previous
            assert world.weights == {after.stable: FULL}, "4: returned before it was confirmed"
        else:
            assert after.state is S.IDLE
            first = before.state in {S.INITIALIZING, S.UNAVAILABLE} and world.ready.get(
                after.stable
            )
            assert first or ask.replicas == 0, "4: stable changed outside a rollout"
            self.served_until.clear()  # at 0 replicas nothing served, so nothing is waited for
            self.unguarded |= {before.stable, before.candidate, after.stable}

    def _passed(
        self, ask: Ask, before: Rollout, after: Rollout, world: World, now: datetime
    ) -> None:
        """A step ends with evidence, or where the user lets time or silence decide."""
        next_step = after.state is S.WARMING and after.step != before.step
        if after.state is not S.PROMOTING and not next_step:
            return
        seen = world.judgement
        late = before.step_deadline_time is not None and now >= before.step_deadline_time
        lets = late and ask.spec.analysis.on_inconclusive == "Promote"
        quiet = seen is not None and seen.reason == NO_TRAFFIC
        lets = lets or (quiet and ask.spec.analysis.on_no_traffic == "Promote")
        judged = seen is None or seen.verdict is Verdict.PASS
        assert judged or lets or before.forced, "10: a step ended without evidence"
        assert seen is None or seen.verdict is not Verdict.FAIL, "10: a failure was ignored"

    def a_route(
        self,
        ask: Ask,
        rollout: Rollout,
        before: World,
        after: World,
        *,
        now: datetime,
        divides: bool,
    ) -> None:
        """Check a change of the routes."""
        if divides:
            lost = before.weights.keys() - after.weights.keys()
            self.served_until |= dict.fromkeys(lost, now)
        assert not after.weights or sum(after.weights.values()) == FULL, "1: the sum is not 100"
        assert all(weight > 0 for weight in after.weights.values())
        stable = rollout.stable or ""
        if ask.replicas == 0 or ask.suspended or not before.replicas.get(stable):
            return  # nobody asks for anything to serve, or did until now
        if before.ready.get(stable):
            self.unguarded.discard(stable)
        # The Service inside the cluster is written first, and leaves the shares as they are.
        moved = divides and after.weights != before.weights
        if rollout.gave_all and rollout.state is S.SHIFTING and moved:
            stray = after.weights.get(stable, 0)
            assert not stray, f"2: {stray} % for a stable revision that has no pods"
        if stable in self.unguarded or rollout.down:
            return  # it became stable while no pods were wanted
        if not divides:
            return  # the proxy divides nothing any more, whatever the route says
        grown = {
            revision
            for revision, weight in after.weights.items()
            if weight > before.weights.get(revision, 0)
        }
        losing = before.weights.keys() - grown
        if before.weights and any(before.ready.get(revision) for revision in losing):
            dead = {revision for revision in grown if not after.ready.get(revision)}
            assert not dead, f"2: {before.weights} -> {after.weights}: {dead} has no ready pod"
        lowered = after.weights.get(stable, 0) < before.weights.get(stable, 0)
        lowered = lowered and before.ready.get(stable, 0) > 0  # else somebody stands in for it
        asked = rollout.candidate in {ask.target, rollout.pinned}
        allowed = (rollout.state in ACTIVE and asked) or stable_gives_way(rollout)
        assert not lowered or allowed, "5: an edit took share from stable"
        self._compared(ask, rollout, after)
        self._sized(rollout, before, after)

    def _compared(self, ask: Ask, rollout: Rollout, after: World) -> None:
        """Before its answers were compared, a candidate gets no request of a user's."""
        if rollout.state is S.SHADOWING and ask.spec.shadow is not None:
            assert not after.weights.get(rollout.candidate or ""), "copies only, and no requests"

    def _sized(self, rollout: Rollout, before: World, after: World) -> None:
        """A share grows only when there are pods for it; an exchange lacks one pod at most."""
        candidate = rollout.candidate or ""
        weight = after.weights.get(candidate, 0)
        if rollout.id != self.rollout_id:
            self.rollout_id, self.reached = rollout.id, 0
        # What pods that died had carried comes back with the first of them, as anywhere else.
        planned = rollout.state is S.SHIFTING and weight == rollout.weight > self.reached
        if not planned or weight <= before.weights.get(candidate, 0):
            return
        self.reached = weight
        missing = 1 if rollout.given_up else 0
        has = after.replicas.get(candidate, 0) + missing
        wants = needed(weight, rollout.initial_replicas or 1)
        assert has >= wants, f"13: {weight} % for {has} of {wants} pods"

    def a_scale(
        self, ask: Ask, rollout: Rollout, cluster: Cluster, revision: str, wants: int
    ) -> None:
        """Check a write of replicas."""
        has = cluster.replicas[revision]
        ruled = revision in cluster.autoscalers and has > 0
        assert not ruled, "12: replicas were written under an autoscaler"
        weight = cluster.world().weights.get(revision, 0)
        free = ask.replicas == 0 or rollout.down or revision in self.unguarded
        if wants >= has or free or not weight:
            return
        lost = cluster.ready[revision] > 0 and min(cluster.ready[revision], wants) == 0
        assert not lost, f"3: {revision} serves, and was scaled to {wants}"
        if rollout.given_up and revision == rollout.stable:
            full = rollout.initial_replicas or 1
            if rollout.state not in ACTIVE:  # whoever asked for fewer meanwhile gets fewer now
                full = min(full, ask.replicas)
            # Weights are whole percents: 67 % of 3 pods is no third pod.
            carried = needed(weight - 1, full)
            assert wants + 1 >= carried, f"13: {wants} of {full} pods at {weight} %"

    def a_removal(
        self, ask: Ask, rollout: Rollout, cluster: Cluster, revision: str, now: datetime
    ) -> None:
        """Check the removal of a revision."""
        named = {cluster.primary, cluster.selected, cluster.canary and cluster.canary[0]}
        assert revision not in named, f"3: {revision} went while a route names it"
        in_use = {rollout.stable, rollout.previous, rollout.candidate}
        assert revision not in in_use, "7: a revision in use went"
        served = self.served_until.pop(revision, None)
        settled = served is None or now - served >= SETTLE - SECOND
        free = rollout.stable is None or revision in self.unguarded or ask.replicas == 0
        assert settled or free, f"3: {revision} went at once"
        self.unguarded.discard(revision)

    def after_a_pass(self, rollout: Rollout, cluster: Cluster) -> None:
        """Check what a whole pass has left."""
        in_use = {rollout.stable, rollout.previous, rollout.candidate} - {None}
        assert cluster.replicas.keys() == in_use, "7: other revisions than those in use"


def stable_gives_way(rollout: Rollout) -> bool:
    """Stable was rejected after its promotion, and traffic returns to the previous revision."""
    return rollout.state is S.ROLLING_BACK and rollout.previous is not None
