"""The images of add-ons that the tool makes itself: one program each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localcluster import golang, versions, wheels

if TYPE_CHECKING:
    from localcluster.golang import Artifact
    from localcluster.wheels import Wheel


@dataclass(frozen=True)
class AddonImage:
    """An image and what it holds.

    Attributes:
        addon: Who uses it.
        name: Full name of the image.
        program: What is built, or downloaded; its program has the same name.
        needs_python: The program needs Debian's libraries, which the Python image has; the others
            are static and alone.
    """

    addon: str
    name: str
    program: Artifact | Wheel
    needs_python: bool = False


IMAGES: Final = (
    AddonImage("traefik", versions.TRAEFIK_IMAGE, wheels.TRAEFIK),
    AddonImage("s3", versions.S3_IMAGE, golang.VERSITYGW),
    AddonImage("metrics-server", versions.METRICS_SERVER_IMAGE, golang.METRICS_SERVER),
    AddonImage("envoy-gateway", versions.ENVOY_GATEWAY_IMAGE, golang.ENVOY_GATEWAY),
    AddonImage("envoy-gateway", versions.ENVOY_IMAGE, wheels.ENVOY, needs_python=True),
)
