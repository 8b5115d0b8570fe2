"""What one pass wants: the rollout's next state, the children that follow from it, and why not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelyard_operator.errors import ModelyardOperatorError
from modelyard_operator.failures import Failure
from modelyard_operator.revision import Revision
from modelyard_operator.rollout.state import Rollout, World
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import Problem
from modelyard_operator.variants import Variant

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The outcome of ``desired_state``.

    Attributes:
        rollout: The state to be written to status before anything else.
        traffic: What the routes should look like.
        world: What the machine saw.
        target: Revision that the spec asks for; None when the spec cannot be built.
        problem: Why the spec cannot be built; everything that serves stays as it is.
        failure: Why the target does not serve.
        gaps: One sentence for each feature that the proxy does not have.
        unrouted: Why the proxy does not have the routes, or cannot.
        variants: What serves beside the rollout.
        objects: Children to apply, in this order.
        scales: Replicas to set through ``/scale``, by Deployment; none where an autoscaler rules.
        pod_annotations: Annotations that pods should carry, by pod.
        protected: Revisions in use whose record is lost: their children are left as they are.
        routes_changed: This pass changes a route.
        wake: When time alone moves things on.
    """

    rollout: Rollout
    traffic: TrafficPlan
    world: World
    target: Revision | None
    problem: ModelyardOperatorError | None = None
    failure: Failure | None = None
    gaps: tuple[str, ...] = ()
    unrouted: Problem | None = None
    variants: tuple[Variant, ...] = ()
    objects: tuple[Manifest, ...] = ()
    scales: Mapping[str, int] = field(default_factory=dict)
    pod_annotations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    protected: frozenset[str] = frozenset()
    routes_changed: bool = False
    wake: datetime | None = None
