"""What other projects publish with their source: definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcluster.addons.install import DEFINITION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def published(folders: Mapping[str, Path]) -> dict[str, str]:
    """Return the texts that complete the manifests of add-ons.

    Args:
        folders: Where the files of an add-on's module lie, by the add-on.

    Returns:
        Values for the manifests.
    """
    found: dict[str, str] = {}
    if "gateway-api" in folders:
        found["gateway_api_crds"] = definitions(folders["gateway-api"] / "standard")
    return found


def definitions(folder: Path) -> str:
    """Return the CustomResourceDefinitions of a folder as one text, without what else is in it."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))]
    return "\n---\n".join(text for text in texts if f"\nkind: {DEFINITION}\n" in text)
