"""Add-ons of a cluster: what tests and demos need besides Kubernetes itself."""

from localcluster.addons.images import IMAGES, AddonImage
from localcluster.addons.install import (
    ENVOY_ADDRESS,
    FROM_SOURCE,
    PUBLISHED,
    S3_ADDRESS,
    TRAEFIK_ADDRESS,
    artifacts,
    install,
    merge,
    of_gateways,
    refuse_from_source,
)
from localcluster.addons.published import published

__all__ = [
    "ENVOY_ADDRESS",
    "FROM_SOURCE",
    "IMAGES",
    "PUBLISHED",
    "S3_ADDRESS",
    "TRAEFIK_ADDRESS",
    "AddonImage",
    "artifacts",
    "install",
    "merge",
    "of_gateways",
    "published",
    "refuse_from_source",
]
