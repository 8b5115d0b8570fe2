"""Why a model does not serve: every failure that a user can cause, as reason, message and hint.

Pure functions over pods, Deployments and the kubelet's Events. The first failure found wins, in the
order of the checks: what explains the others comes first. The container's own last word (its
termination message) beats what the kubelet makes of it. What is shown is redacted.

References:
    docs/reference/runtime-contract.md, "Termination messages".
    docs/reference/failures.md, every reason with its cause and fix.
"""

from modelyard_operator.failures.failure import MESSAGE_LIMIT, Failure, RevisionView
from modelyard_operator.failures.finding import (
    SUSPICION,
    find_failure,
    find_shortage,
    unexplained_pods,
)
from modelyard_operator.failures.termination import parse_termination_message

__all__ = [
    "MESSAGE_LIMIT",
    "SUSPICION",
    "Failure",
    "RevisionView",
    "find_failure",
    "find_shortage",
    "parse_termination_message",
    "unexplained_pods",
]
