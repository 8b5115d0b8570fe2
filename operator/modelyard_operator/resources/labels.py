"""Labels, selectors and annotations of the children."""

from typing import Final

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MODEL_DEPLOYMENT: Final = "modelyard.dev/model-deployment"
REVISION: Final = "modelyard.dev/revision"
VARIANT: Final = "modelyard.dev/variant"
"""On what belongs to a variant, pods included, so that its revision is never that of another role."""
APPLIED_HASH: Final = "modelyard.dev/applied-hash"
"""Annotation on each child: what was applied last, so that fields no longer wanted are found."""
DIRECTIVES_HASH: Final = "modelyard.dev/directives-hash"
"""Annotation on each pod: changing it makes the kubelet refresh the mounted directives at once."""
FILES_HASH: Final = "modelyard.dev/files-hash"
"""Annotation on the pod template: the contents of the revision's files, which its hash thus covers."""
VARIANTS: Final = "modelyard.dev/variants"
"""Annotation on an HTTPRoute: which of its backends are no part of a rollout, with commas between."""
ROLLOUT_COMMAND: Final = "modelyard.dev/rollout"
"""Annotation on the ModelDeployment: ``verb@revision#id``."""

MANAGER: Final = "modelyard"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
"""Server-side selector of everything that the operator owns, pods included."""


def for_model_deployment(name: str) -> dict[str, str]:
    """Labels of a child that belongs to the whole ModelDeployment."""
    return {MANAGED_BY: MANAGER, MODEL_DEPLOYMENT: name}


def for_revision(name: str, revision: str) -> dict[str, str]:
    """Labels of a child that belongs to one revision."""
    return {**for_model_deployment(name), REVISION: revision}


def for_variant(name: str | None) -> dict[str, str]:
    """Labels that tell what belongs to a variant; none for the rest."""
    return {VARIANT: name} if name else {}


def revision_selector(name: str, revision: str) -> dict[str, str]:
    """Selects the pods of one revision."""
    return {MODEL_DEPLOYMENT: name, REVISION: revision}
