"""Add-ons of a cluster: what tests and demos need besides Kubernetes itself."""

from localcluster.addons.install import (
    S3_ADDRESS,
    TRAEFIK_ADDRESS,
    Kubectl,
    artifacts,
    install,
    merge,
)

__all__ = ["S3_ADDRESS", "TRAEFIK_ADDRESS", "Kubectl", "artifacts", "install", "merge"]
