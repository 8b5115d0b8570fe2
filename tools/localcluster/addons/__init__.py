"""Add-ons of a cluster: what tests and demos need besides Kubernetes itself."""

from localcluster.addons.install import Kubectl, artifacts, install, merge

__all__ = ["Kubectl", "artifacts", "install", "merge"]
