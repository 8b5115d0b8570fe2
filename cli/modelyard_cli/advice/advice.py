"""What a person is told about a failure, and the commands that most of it proposes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modelyard_cli.view import Failure, View
from modelyard_cli.words import Caller


@dataclass(frozen=True)
class Trouble:
    """One failure, and whose it is."""

    view: View
    failure: Failure
    caller: Caller


Command = Callable[[Trouble], str]


@dataclass(frozen=True)
class Advice:
    """What a person is told about a failure.

    Attributes:
        meaning: What has happened, in general; a sentence.
        fix: What to do; a sentence.
        command: The next command to run.
        why: What that command is for.
    """

    meaning: str
    fix: str
    command: Command
    why: str


def edit(spec: str) -> Command:
    """Return a command that merges JSON into the spec."""
    return lambda trouble: trouble.caller.edit(trouble.view.name, spec)


def kubectl(words: str) -> Command:
    """Return a kubectl command about the namespace."""
    return lambda trouble: trouble.caller.kubectl(words)


def describe(trouble: Trouble) -> str:
    """Show what kubelet and scheduler say of the pod."""
    if trouble.failure.pod:
        return trouble.caller.kubectl(f"describe pod/{trouble.failure.pod}")
    selector = f"modelyard.dev/model-deployment={trouble.view.name}"
    return trouble.caller.kubectl(f"describe pods -l {selector}")


def logs(trouble: Trouble) -> str:
    """Show the log of the run that ended."""
    failure = trouble.failure
    words = ["--revision", failure.revision] if failure.revision else []
    words += ["--container", failure.container] if failure.container else []
    return trouble.caller.own("logs", trouble.view.name, " ".join([*words, "--previous"]))


def operator_log(trouble: Trouble) -> str:
    """Show the operator's log."""
    return trouble.caller.operator_log()


def nodes(trouble: Trouble) -> str:
    """Show what the nodes have, and who uses it."""
    return trouble.caller.kubectl_anywhere("describe nodes")


def open_spec(trouble: Trouble) -> str:
    """Open the whole spec."""
    return trouble.caller.kubectl(f"edit mdep/{trouble.view.name}")


def namespace(trouble: Trouble) -> str:
    """Show whether the namespace is on its way out."""
    return trouble.caller.kubectl_anywhere(f"get namespace {trouble.view.namespace}")


def secret(trouble: Trouble) -> str:
    """Show the Secret of the download, or name one."""
    name = trouble.view.spec_at("model", "credentialsSecretRef", "name")
    if name:
        return trouble.caller.kubectl(f"describe secret/{name}")
    return trouble.caller.edit(
        trouble.view.name, '{"model":{"credentialsSecretRef":{"name":"SECRET"}}}'
    )


def account(trouble: Trouble) -> str:
    """Show quotas, limits and the service account."""
    name = trouble.view.spec_at("serviceAccountName") or "default"
    return trouble.caller.kubectl(f"get resourcequota,limitrange,serviceaccount/{name}")


LOOK_AT_PODS: Final = frozenset({describe, logs})
"""Commands that show nothing once the pods are gone."""
