"""What the pods of a revision are told of the rollout, beside what the spec tells all of them."""

import hashlib
from typing import Final, NamedTuple

from modelyard_operator.resources.directives import Copies, Keepsake, Verification
from modelyard_operator.resources.names import service_url, sticky_cookie
from modelyard_operator.revision import Revision
from modelyard_operator.rollout.state import ACTIVE, Rollout, RolloutState
from modelyard_operator.rollout.transitions import FULL
from modelyard_operator.spec import ModelDeployment

_TOKEN_CHARACTERS: Final = 32
_KNOWS_COPIES: Final = ACTIVE | {RolloutState.ROLLING_BACK}
"""States in which a copy may reach the candidate, those on their way when it is rejected included."""


class Role(NamedTuple):
    """A revision's part in a rollout.

    Attributes:
        verification: What golden requests decide; None for a revision that has none.
        copies: Its side of a comparison; None while nothing is compared.
        keepsake: What its clients are given to be led back to it; None while requests are not divided.
    """

    verification: Verification | None = None
    copies: Copies | None = None
    keepsake: Keepsake | None = None


def role_of(model_deployment: ModelDeployment, revision: Revision, rollout: Rollout) -> Role:
    """Return a revision's part in the rollout.

    Args:
        model_deployment: Whose revision it is.
        revision: One with pods.
        rollout: The rollout as it stands.
    """
    return Role(
        _verification(revision, rollout),
        _copies(model_deployment, revision.name, rollout),
        _keepsake(model_deployment, revision.name, rollout),
    )


def _copies(model_deployment: ModelDeployment, revision: str, rollout: Rollout) -> Copies | None:
    """Return a revision's side of a comparison.

    Stable's pods copy requests only while their answers are compared. The candidate's know the copies'
    token from the beginning to the end, so that no copy is ever taken for a user's request.
    """
    shadow = model_deployment.spec.rollout.shadow
    if shadow is None or rollout.candidate is None or rollout.state not in _KNOWS_COPIES:
        return None
    token = copy_token(model_deployment, rollout)
    if revision == rollout.candidate:
        return Copies(token)
    if revision != rollout.stable or rollout.state is not RolloutState.SHADOWING:
        return None
    url = service_url(rollout.candidate, model_deployment.namespace)
    return Copies(token, url, shadow.percent)


def _keepsake(
    model_deployment: ModelDeployment, revision: str, rollout: Rollout
) -> Keepsake | None:
    """Return what a revision's clients are given; the last step is everybody's, so nothing then."""
    stickiness = model_deployment.spec.rollout.stickiness
    divided = rollout.state in ACTIVE and 0 < rollout.weight < FULL
    if stickiness is None or rollout.candidate is None or not divided:
        return None
    name = sticky_cookie(stickiness.cookie, rollout.candidate)
    if revision == rollout.candidate:
        return Keepsake(name, "always")
    return Keepsake(name, "never") if revision == rollout.stable else None


def copy_token(model_deployment: ModelDeployment, rollout: Rollout) -> str:
    """Return what marks the copies of one rollout; no caller of the model can guess it.

    A copy counts nowhere, so whoever knew the token could ask unseen. It follows from the object's uid,
    which only those see who may read the object, so that it needs to be stored nowhere.
    """
    text = f"{model_deployment.uid}/{rollout.id}/{rollout.candidate}"
    return hashlib.sha256(text.encode()).hexdigest()[:_TOKEN_CHARACTERS]


def _verification(revision: Revision, rollout: Rollout) -> Verification | None:
    """A candidate has to prove itself; one that was promoted must come up again on any node."""
    if revision.spec.rollout.verification is None:
        return None
    return "Report" if revision.name in {rollout.stable, rollout.previous} else "Gate"
