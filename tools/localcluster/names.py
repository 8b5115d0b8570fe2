"""Image names as Docker, buildah and containerd all understand them."""

from __future__ import annotations


def canonical(name: str) -> str:
    """Return an image's full name, e.g. ``docker.io/library/redis:latest`` for ``redis``."""
    first, slash, _ = name.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    if not has_registry:
        name = f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    has_tag = ":" in name.rpartition("/")[2] or "@" in name
    return name if has_tag else f"{name}:latest"
