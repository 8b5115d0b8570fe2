"""Add-ons of a cluster: what tests and demos need besides Kubernetes itself."""

from localcluster.addons.install import artifacts, install, merge

__all__ = ["artifacts", "install", "merge"]
