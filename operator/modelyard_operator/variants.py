"""Variants: models that get a share of the requests for long, beside whatever a rollout does. Pure.

A variant is a revision that no rollout decides about. What is wanted follows from what is seen, so
that nothing has to be remembered:

- its revision gets the weight while it has a ready pod, and nobody's requests wait for one;
- after an edit the one before serves until the new one has all of its pods ready;
- a revision keeps its pods while a route names it, and until the proxies have followed the route that
  does not any more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from modelyard_operator.checks import check_scheme
from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.files import read_files
from modelyard_operator.observed import Observed
from modelyard_operator.revision import Revision, target_revision
from modelyard_operator.rollout.sizing import Bounds
from modelyard_operator.running import Running
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import ModelDeployment, VariantSpec
from modelyard_operator.traffic.capabilities import carries_variants
from modelyard_operator.traffic.proxy import Proxy


@dataclass(frozen=True)
class Variant:
    """One variant, as a pass wants it.

    Attributes:
        name: Its name in the spec.
        weight: Percent of all requests that it is asked to get.
        target: Revision that the spec leads to; None when it cannot be built.
        serving: Revision that gets the weight; None: its share goes to the rollout's revisions.
        observed_weight: Percent that the routes give to ``revision``.
        problem: Why the target does not serve; None when it does, or is not meant to.
    """

    name: str
    weight: int
    target: Revision | None
    serving: str | None = None
    observed_weight: int = 0
    problem: str | None = None

    @property
    def revision(self) -> str:
        """The revision to tell about: the one that serves, else the one that is to."""
        return self.serving or (self.target.name if self.target else "")


@dataclass(frozen=True)
class Variants:
    """All of them.

    Attributes:
        all: In the order of the spec; none behind a proxy that cannot divide so.
        running: Revisions with pods.
        unknown: Revisions in use whose record is lost: their children are left as they are.
    """

    all: tuple[Variant, ...] = ()
    running: tuple[Running, ...] = ()
    unknown: frozenset[str] = frozenset()

    @property
    def weights(self) -> dict[str, int]:
        """Percent of all requests for each revision that can answer its share."""
        return {one.serving: one.weight for one in self.all if one.serving}


def plan_variants(
    observed: Observed, settings: OperatorSettings, proxy: Proxy, now: datetime
) -> Variants:
    """Return what a pass wants of the variants.

    Args:
        observed: The cluster's state.
        settings: The operator's own settings.
        proxy: The proxy that the routes are written for.
        now: Current time, in UTC.
    """
    owner = observed.model_deployment
    asked = owner.spec.variants if carries_variants(proxy) else ()
    if owner.spec.suspend or not (asked or observed.variants):
        return Variants()
    found = [_variant(observed, settings, one) for one in asked]
    views = [owner.view_of(one) for one in asked]
    new = [
        _beginning(observed, view, one.target)
        for view, one in zip(views, found, strict=True)
        if one.target
    ]
    wanted = {one.revision.name for one in new}
    left = [name for name in _in_use(observed, found, now) if name not in wanted]
    old = [one for name in left if (one := _leaving(observed, name)) is not None]
    unknown = set(left) - {one.revision.name for one in old}
    return Variants(tuple(found), (*new, *old), frozenset(unknown))


def routed_variants(observed: Observed) -> dict[str, int]:
    """Return the percent of all requests that the live routes give to revisions of variants."""
    live = observed.live_routes.values()
    return {name: weight for routes in live for name, weight in routes.variants.items()}


def _variant(observed: Observed, settings: OperatorSettings, asked: VariantSpec) -> Variant:
    owner = observed.model_deployment.view_of(asked)
    target, problem = _target(observed, settings, asked)
    serving = _serving(observed, owner, target)
    if target and serving != target.name and owner.spec.floor:
        problem = _why_not(observed, owner, target, serving)
    found = Variant(asked.name, asked.weight, target, serving, problem=problem)
    return replace(found, observed_weight=routed_variants(observed).get(found.revision, 0))


def _target(
    observed: Observed, settings: OperatorSettings, asked: VariantSpec
) -> tuple[Revision | None, str | None]:
    """Return the revision that the spec leads to, or why there is none."""
    owner = observed.model_deployment.view_of(asked)
    try:
        check_scheme(f"spec.variants[{asked.name}].model.uri", asked.model.uri)
        files = read_files(owner.spec, observed.config_maps)
        history = observed.history_of(asked.name)
        return target_revision(owner, history, catalogue=settings.catalogue, files=files), None
    except InvalidSpecError as error:
        return None, str(error)


def _serving(observed: Observed, owner: ModelDeployment, target: Revision | None) -> str | None:
    """The new revision replaces another when it is as large; it stands in for none at once."""
    routed = routed_variants(observed)
    others = sorted(_others(observed, owner, target), key=lambda name: name not in routed)
    others = [name for name in others if observed.ready(name)]
    if target is not None:
        needed = _size(observed, owner, target) if others else 1
        if observed.ready(target.name) >= max(1, needed):
            return target.name
    return others[0] if others else None


def _others(observed: Observed, owner: ModelDeployment, target: Revision | None) -> list[str]:
    """Live revisions of the same variant, from before an edit."""
    own = target.name if target else None
    return [
        name
        for name, variant in observed.variants.items()
        if variant == owner.variant and name != own
    ]


def _size(observed: Observed, owner: ModelDeployment, target: Revision) -> int:
    """Pods of the target; where an autoscaler has grown the one before, as many as that has."""
    floor = owner.spec.floor
    if owner.spec.scaling is None or not floor:
        return floor
    grown = (observed.replicas(name) or 0 for name in _others(observed, owner, target))
    return max(floor, *grown, 0)


def _why_not(
    observed: Observed, owner: ModelDeployment, target: Revision, serving: str | None
) -> str:
    instead = f"{serving} serves" if serving else "its share goes to the others"
    if failure := observed.failure(target.name):
        return f"{target.name}: {failure.reason}: {failure.message} ({failure.hint}); {instead}"
    ready, size = observed.ready(target.name), _size(observed, owner, target)
    return f"{target.name}: {ready} of {size} pods are ready; {instead}"


def _in_use(observed: Observed, found: Iterable[Variant], now: datetime) -> Iterator[str]:
    """Live revisions that may get a request: all of them until the proxies have followed."""
    live = observed.live_routes.values()
    followed = observed.settled(now) and not any(routes.problem for routes in live)
    named = {name for routes in live for name in routes.variants}
    named |= {one.serving for one in found if one.serving}
    return (name for name in observed.variants if name in named or not followed)


def _beginning(observed: Observed, owner: ModelDeployment, target: Revision) -> Running:
    size = _size(observed, owner, target)
    return Running(owner, target, size, Bounds(floor=size))


def _leaving(observed: Observed, name: str) -> Running | None:
    """A revision that is not wanted any more, as it is; None without a record of it."""
    variant = observed.variants[name]
    record = next((one for one in observed.history_of(variant) if one.name == name), None)
    if record is None:
        return None
    owner = observed.model_deployment.model_copy(update={"variant": variant})
    has = observed.replicas(name) or 0 if owner.spec.floor else 0
    return Running(owner, record, has, Bounds(floor=has, hold=True))
