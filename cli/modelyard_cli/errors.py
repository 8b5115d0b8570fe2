"""What can go wrong in the command line.

CliError                   ends the command with exit code 1
├── KubeconfigError        there is no cluster to talk to
├── UnreachableError       the API server does not answer
├── ApiError               the API server refuses
│   ├── NotFoundError      the object, or the kind, does not exist
│   └── ForbiddenError     RBAC does not allow it
├── NoRolloutError         the command needs a rollout, a candidate or an earlier revision
├── RevisionError          no revision of that name or number
├── BodyError              the request's body cannot be read
├── NotAnsweredError       the operator has not taken the command in time
└── RefusedError           the operator did not do what the command asked
"""


class CliError(Exception):
    """Root of all errors that end a command.

    Args:
        message: What happened, with the name of what it is about.
        hint: What to do about it; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class KubeconfigError(CliError):
    """The kubeconfig is missing, cannot be read, or lacks the context."""


class UnreachableError(CliError):
    """The API server did not answer."""


class ApiError(CliError):
    """The API server answered with an error."""


class NotFoundError(ApiError):
    """There is no such object, or the cluster does not know its kind (HTTP 404)."""


class ForbiddenError(ApiError):
    """The user may not do this (HTTP 401 or 403)."""


class NoRolloutError(CliError):
    """There is nothing that the command could be about."""


class RevisionError(CliError):
    """No revision on record has that name, hash or number."""


class BodyError(CliError):
    """The body of a request cannot be read, or its format is not known."""


class NotAnsweredError(CliError):
    """The operator did not record the command in time."""


class RefusedError(CliError):
    """The operator recorded the command and did not carry it out."""
