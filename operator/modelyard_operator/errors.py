"""What can go wrong in the operator.

ModelyardOperatorError
├── InvalidSpecError      permanent: only an edit of the object helps
├── InvalidPodTemplateError  permanent: the API server refuses the Deployment that the spec makes
├── ChildRejectedError    permanent: the API server refuses another child
├── NotOwnedError         permanent: a child's name is taken by somebody else's object
├── ScrapeError           retry: a pod or Prometheus did not answer as expected
└── ClusterError          retry: the API server did not do what was asked
    ├── ClusterConflictError   the object moved on; look again at once
    ├── ClusterForbiddenError  RBAC or admission refuses
    │   └── QuotaExceededError     a quota of the namespace refuses a child
    ├── ClusterRejectedError   the API server refuses the object as invalid
    └── ClusterGoneError       the object or its namespace is being deleted

A class knows neither kopf nor HTTP. ``reason`` is CamelCase and becomes a condition's reason,
``hint`` says what the user can do.
"""

from typing import ClassVar


class ModelyardOperatorError(Exception):
    """Root of all errors that the operator raises itself."""

    reason: ClassVar[str] = "Error"
    hint: ClassVar[str] = "the operator tries again"
    permanent: ClassVar[bool] = False


class InvalidSpecError(ModelyardOperatorError):
    """The spec asks for something that cannot be; the message names the field."""

    reason = "InvalidSpec"
    hint = "correct the field and apply again"
    permanent = True


class InvalidPodTemplateError(ModelyardOperatorError):
    """The API server finds the Deployment invalid that the spec leads to."""

    reason = "InvalidPodTemplate"
    hint = "correct spec.podTemplate, spec.scheduling or spec.resources"
    permanent = True


class ChildRejectedError(ModelyardOperatorError):
    """The API server finds another child invalid."""

    reason = "ChildRejected"
    hint = "correct the part of the spec that the message names"
    permanent = True


class NotOwnedError(ModelyardOperatorError):
    """An object with a child's name exists and belongs to somebody else."""

    reason = "NameTaken"
    hint = "delete or rename the other object, or rename this one"
    permanent = True


class ScrapeError(ModelyardOperatorError):
    """A pod or Prometheus did not answer, or not as expected; never a reason to blame a revision."""

    reason = "SourceUnreachable"


class ClusterError(ModelyardOperatorError):
    """The API server answered with an error, or not at all."""

    reason = "ClusterError"


class ClusterConflictError(ClusterError):
    """The object changed since it was read (HTTP 409)."""

    reason = "Conflict"


class ClusterForbiddenError(ClusterError):
    """RBAC or an admission policy refuses (HTTP 403)."""

    reason = "Forbidden"
    hint = "give the operator the right, or correct the admission policy"


class QuotaExceededError(ClusterForbiddenError):
    """A ResourceQuota of the namespace has no room for one of the children (HTTP 403)."""

    reason = "NamespaceQuotaExceeded"
    hint = "free objects of the kind that the message names, or have the ResourceQuota raised"


class ClusterRejectedError(ClusterError):
    """The API server finds the object invalid (HTTP 400 or 422)."""

    reason = "Rejected"


class ClusterGoneError(ClusterError):
    """The object does not exist any more, or its namespace is terminating."""

    reason = "Gone"
