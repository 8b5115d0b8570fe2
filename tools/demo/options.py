"""What a run of the demo is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo.proxies import PROXIES

if TYPE_CHECKING:
    from demo.proxies import Proxy

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = Path("examples") / "digits"
"""Relative, because it is shown, and the demo runs its commands in the repository's root."""
NAMESPACE: Final = "digits"
MODEL: Final = "digits"
SKLEARN_MODEL: Final = "digits-knn"
HOST: Final = "digits.example.com"
SKLEARN_HOST: Final = "digits-knn.example.com"
OPERATOR_NAMESPACE: Final = "modelyard-system"
RELEASE: Final = "modelyard"
BUCKET: Final = "models"


@dataclass(frozen=True)
class Options:
    """Choices of the user.

    Attributes:
        registry: Where the nodes find images that are not built here, e.g.
            ``registry.example.com/acme/``; empty builds them.
        tag: Tag of the images, below which the runtime's variants add ``-slim`` and ``-torch``.
        torch_index_url: Where the torch image's build takes torch from; empty for PyPI.
        dialect: Dialect of the routes, which tells the proxy: ``Ingress`` or ``Gateway``.
        proxy_address: Address of the proxy; empty finds it.
        install: Whether to install the chart; otherwise an operator runs already.
        rate: Requests a second while the new version is rolled out.
        keep: Whether the cluster stays at the end; None leaves it to where the demo runs.
    """

    registry: str = ""
    tag: str = "dev"
    torch_index_url: str = ""
    dialect: str = "Ingress"
    proxy_address: str = ""
    install: bool = True
    rate: float = 120.0
    keep: bool | None = None

    @property
    def proxy(self) -> Proxy:
        """The proxy between the clients and the models."""
        return PROXIES[self.dialect]

    @property
    def operator_repository(self) -> str:
        """Image of the operator, without its tag."""
        return f"{self.registry}modelyard/operator"

    @property
    def torch_image(self) -> str:
        """Image of the runtime with torch."""
        return f"{self.registry}modelyard/runtime:{self.tag}-torch"

    @property
    def slim_image(self) -> str:
        """Image of the runtime without torch."""
        return f"{self.registry}modelyard/runtime:{self.tag}-slim"


def stays(*, asked: bool | None, created: bool, interactive: bool) -> bool:
    """Return whether what the demo has made stays at its end.

    Args:
        asked: What the user asked for; None for nothing.
        created: The demo has created the cluster; one that was there before stays.
        interactive: Somebody sits at the terminal and may want to play on.
    """
    if asked is not None:
        return asked
    return interactive or not created
