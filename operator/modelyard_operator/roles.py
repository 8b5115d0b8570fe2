"""What the pods of a revision are told of the rollout, beside what the spec tells all of them."""

import hashlib
from typing import Final, NamedTuple

from modelyard_operator.resources.directives import Copies, Verification
from modelyard_operator.resources.names import service_url
from modelyard_operator.revision import Revision
from modelyard_operator.rollout.state import ACTIVE, Rollout, RolloutState
from modelyard_operator.spec import ModelDeployment

_TOKEN_CHARACTERS: Final = 32
_KNOWS_COPIES: Final = ACTIVE | {RolloutState.ROLLING_BACK}
"""States in which a copy may reach the candidate, those on their way when it is rejected included."""


class Role(NamedTuple):
    """A revision's part in a rollout.

    Attributes:
        verification: What golden requests decide; None for a revision that has none.
        copies: Its side of a comparison; None while nothing is compared.
    """

    verification: Verification | None = None
    copies: Copies | None = None


def role_of(model_deployment: ModelDeployment, revision: Revision, rollout: Rollout) -> Role:
    """Return a revision's part in the rollout.

    Stable's pods copy requests only while their answers are compared. The candidate's know the copies'
    token from the beginning to the end, so that no copy is ever taken for a user's request.

    Args:
        model_deployment: Whose revision it is.
        revision: One with pods.
        rollout: The rollout as it stands.
    """
    shadow = model_deployment.spec.rollout.shadow
    verification = _verification(revision, rollout)
    if shadow is None or rollout.candidate is None or rollout.state not in _KNOWS_COPIES:
        return Role(verification)
    token = copy_token(model_deployment, rollout)
    if revision.name == rollout.candidate:
        return Role(verification, Copies(token))
    if revision.name != rollout.stable or rollout.state is not RolloutState.SHADOWING:
        return Role(verification)
    url = service_url(rollout.candidate, model_deployment.namespace)
    return Role(verification, Copies(token, url, shadow.percent))


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
