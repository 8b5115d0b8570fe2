"""What every command starts from: options that choose the cluster, and a connection when needed.

``command`` gives a function these options in front of its own, so that each subcommand takes them
where kubectl users expect them: behind the verb.
"""

import inspect
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from modelyard_cli.words import Caller

if TYPE_CHECKING:
    from modelyard_cli.cluster import Cluster

PLUGIN: Final = "kubectl-modelyard"
PIPED_WIDTH: Final = 160

NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", metavar="NAME", help="Namespace; default: that of the context."
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context", metavar="NAME", help="Context of the kubeconfig; default: the current one."
    ),
]
KubeconfigOption = Annotated[
    Path | None,
    typer.Option("--kubeconfig", metavar="FILE", help="Default: KUBECONFIG, then ~/.kube/config."),
]
OPTIONS: Final = {
    "namespace": NamespaceOption,
    "context": ContextOption,
    "kubeconfig": KubeconfigOption,
}


@dataclass(frozen=True)
class Session:
    """One run of a command.

    Attributes:
        namespace: As asked for; None for that of the context.
        context: As asked for; None for the current one.
        kubeconfig: As asked for; None for the usual file.
    """

    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None

    @cached_property
    def cluster(self) -> "Cluster":
        """The API server; connects at first use."""
        # Half a second of imports that help and completion of options need not wait for.
        from modelyard_cli.cluster import Cluster  # noqa: PLC0415

        return Cluster.connect(self.kubeconfig, self.context, self.namespace)

    @cached_property
    def console(self) -> Console:
        """Standard output; as wide as the terminal, and wide where there is none to fit."""
        fits = sys.stdout.isatty() or "COLUMNS" in os.environ
        return Console(
            highlight=False,
            markup=False,  # what others wrote is shown as they wrote it
            emoji=False,
            width=None if fits else PIPED_WIDTH,
        )

    @property
    def caller(self) -> Caller:
        """How this program was called."""
        chosen = (("--kubeconfig", self.kubeconfig), ("--context", self.context))
        words = (word for flag, value in chosen if value for word in (flag, str(value)))
        return Caller(program_name(), shlex.join(words), self.namespace or "")


def program_name() -> str:
    """Return what a user types to get here."""
    return "kubectl modelyard" if Path(sys.argv[0]).name.startswith(PLUGIN) else "modelyard"


def command(
    app: typer.Typer,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function whose first parameter is a Session as a command.

    Args:
        app: Where to.

    Returns:
        A decorator; the function itself stays as it is.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def run(
            namespace: str | None, context: str | None, kubeconfig: Path | None, **own: Any
        ) -> None:
            function(Session(namespace, context, kubeconfig), **own)

        run.__name__ = function.__name__
        signature = inspect.signature(function)
        own = list(signature.parameters.values())[1:]
        common = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
            for name, annotation in OPTIONS.items()
        ]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        run.__signature__ = inspect.Signature([*parameters, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in (*parameters, *common)}
        app.command(help=_help(function))(run)
        return function

    return register


def _help(function: Callable[..., None]) -> str:
    """Return a docstring whose examples keep their lines."""
    return inspect.cleandoc(function.__doc__ or "").replace("\nExamples:", "\n\b\nExamples:")
