"""What other projects publish with their source: definitions, and the chart of Envoy Gateway."""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING, Final

from localcluster.addons.install import DEFINITION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from localcluster.addons.install import Command

NAMESPACE: Final = "envoy-gateway-system"


def published(
    folders: Mapping[str, Path], helm: Command, envoy_gateway_image: str
) -> dict[str, str]:
    """Return the texts that complete the manifests of add-ons.

    Args:
        folders: Where the files of an add-on's module lie, by the add-on.
        helm: Runs helm.
        envoy_gateway_image: The controller's image.

    Returns:
        Values for the manifests.
    """
    found: dict[str, str] = {}
    if "gateway-api" in folders:
        found["gateway_api_crds"] = definitions(folders["gateway-api"] / "standard")
    if "envoy-gateway" in folders:
        chart = folders["envoy-gateway"] / "gateway-helm"
        found["envoy_gateway_chart"] = _chart(chart, helm, envoy_gateway_image)
    return found


def definitions(folder: Path) -> str:
    """Return the CustomResourceDefinitions of a folder as one text, without what else is in it."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))]
    return "\n---\n".join(text for text in texts if f"\nkind: {DEFINITION}\n" in text)


def _chart(chart: Path, helm: Command, image: str) -> str:
    """Return Envoy Gateway's definitions and objects, without the Gateway API that it brings."""
    # A released chart has these values filled in.
    values = Template((chart / "values.tmpl.yaml").read_text(encoding="utf-8"))
    objects = helm(
        *("template", "envoy-gateway", str(chart), f"--namespace={NAMESPACE}", "--values=-"),
        # One node has no topology, and every pod's binding would wait for that webhook.
        *("--set=crds.enabled=false", "--set=topologyInjector.enabled=false"),
        "--set=deployment.envoyGateway.resources.requests.cpu=10m",
        stdin=values.substitute(GatewayImage=image, GatewayImagePullPolicy="IfNotPresent"),
    )
    return "\n---\n".join([definitions(chart / "charts/crds/crds/generated"), objects])
