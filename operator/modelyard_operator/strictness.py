"""``exposure.strict``: an exposure that nobody can provide is held back, and the last good one stays.

What serves does so as before, and follows the weights of a rollout that is under way; a rollback is
never kept waiting by a field. What the model server itself provides applies at once all the same: a
key that is asked for must not wait for a time-out that a proxy lacks.
"""

from dataclasses import replace
from datetime import datetime

from modelyard_operator.errors import InvalidSpecError
from modelyard_operator.observed import Observed
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import ExposureSpec
from modelyard_operator.traffic.capabilities import refused


class FeaturesUnsupportedError(InvalidSpecError):
    """The exposure asks for what neither its proxy nor the model server has."""

    reason = "FeaturesUnsupported"
    hint = "take the fields back, choose another proxy, or set spec.exposure.strict to false"


def hold_back(observed: Observed, settings: OperatorSettings, now: datetime) -> Observed:
    """Return the observation as it is without what nobody provides.

    Args:
        observed: With what is known of the Gateway that is asked for.
        settings: The operator's own settings.
        now: Current time, in UTC.

    Returns:
        The same if nothing is held back; else with the last good exposure, and why.
    """
    owner = observed.model_deployment
    sentences = refused(owner.spec, observed.proxy(settings, now))
    if not sentences:
        return observed
    spec = owner.spec.model_copy(update={"exposure": _last_good(observed)})
    held = owner.model_copy(update={"spec": spec})
    return replace(
        observed,
        model_deployment=held,
        refusal=FeaturesUnsupportedError("; ".join(sentences)),
        gateway=None,
    )


def _last_good(observed: Observed) -> ExposureSpec:
    owner = observed.model_deployment
    asked = owner.spec.exposure
    known = (owner.status.get("traffic") or {}).get("exposure")
    if known is None and observed.live_routes:
        return asked  # they were written before anybody took note
    provided = {
        "auth": asked.auth,
        "rate_limit": asked.rate_limit,
        "max_body_bytes": asked.max_body_bytes,
        "network_policy": asked.network_policy,
        "allow_from": asked.allow_from,
    }
    return ExposureSpec.model_validate(known or {}).model_copy(update=provided)
