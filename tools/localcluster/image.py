"""What is to be built: a Dockerfile, a context and the arguments of the build."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localcluster import inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class ImageBuild:
    """One image to build and load.

    Attributes:
        name: Full name of the image.
        dockerfile: The Dockerfile.
        context: The folder whose files it copies.
        build_args: Build arguments.
        target: Stage to stop at; empty for the last one.
        base: Identity of the base images, where the Dockerfile's text does not tell it.
    """

    name: str
    dockerfile: Path
    context: Path
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    base: str = ""

    def digest(self) -> str:
        """Return the digest of everything that decides the result."""
        return inputs.digest(
            self.dockerfile, self.context, self.build_args, (self.target, self.base)
        )
