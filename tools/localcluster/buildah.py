"""Image builds without Docker: buildah with all of its storage in the cache."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Final

from localcluster.packages import ADMIN_PATH
from localcluster.processes import run, succeeds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from localcluster.image import ImageBuild
    from localcluster.paths import Cache

BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
CONFIG: Final = Template("""\
[containers]
# Only while a build runs; none of it stays in the image.
env = [$env]
[network]
# Not used, and yet created wherever this says.
network_config_dir = "$networks"
""")
BUILD_ENVIRONMENT: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
"""Read by uv, pip and requests: the machine's certificates count during a build as well."""


@dataclass(frozen=True)
class Buildah:
    """Builds images and hands them out as archives.

    Attributes:
        cache: Where images and layers are kept.
    """

    cache: Cache

    def has(self, image: str) -> bool:
        """Return whether an image was built before."""
        return succeeds(self._command("inspect", "--type", "image", image), env=self._environment())

    def build(self, build: ImageBuild) -> None:
        """Build one image from its Dockerfile, layer by layer, reusing what has not changed."""
        options = [f"--build-arg={key}={value}" for key, value in build.build_args.items()]
        if build.target:
            options.append(f"--target={build.target}")
        shared = ("/etc/ssl/certs", "/etc/resolv.conf")
        options.extend(f"--volume={path}:{path}:ro" for path in shared)
        self._run(
            *("build", "--layers", "--isolation=chroot", "--pull=never", "--quiet"),
            *options,
            f"--tag={build.name}",
            f"--file={build.dockerfile}",
            str(build.context),
        )

    def from_folder(self, image: str, folder: Path, config: Sequence[str]) -> None:
        """Make an image of one layer from a folder.

        Args:
            image: Its name.
            folder: What becomes its root.
            config: Options of ``buildah config``: entry point, environment.
        """
        container = self._run("from", "scratch").strip()
        try:
            self._run("add", "--quiet", container, str(folder), "/")
            self._run("config", *config, container)
            self._run("commit", "--quiet", container, image)
        finally:
            self._run("rm", container)

    def export(self, image: str, archive: Path) -> None:
        """Write an image to an archive, uncompressed: it is read once, on this machine."""
        archive.unlink(missing_ok=True)
        # The format of Docker: the one in which layers stay uncompressed.
        target = f"docker-archive:{archive}:{image}"
        self._run("push", "--quiet", image, target)

    def _run(self, *arguments: str) -> str:
        return run(self._command(*arguments), env=self._environment())

    def _command(self, *arguments: str) -> list[str]:
        storage = [f"--root={self.cache.images}/storage", f"--runroot={self.cache.images}/run"]
        # In a mount namespace of its own: an interrupted build leaves no mount, and the folders
        # that buildah's libraries insist on are passing ones.
        script = 'for d in /var/lib /var/cache; do mount -t tmpfs tmpfs $d; done; exec "$@"'
        program = ["buildah", *storage, "--storage-driver=overlay", *arguments]
        return ["unshare", "--mount", "sh", "-ec", script, "sh", *program]

    def _environment(self) -> dict[str, str]:
        temporary = self.cache.images / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        config = self.cache.images / "containers.conf"
        words = ", ".join(f'"{name}={BUNDLE}"' for name in BUILD_ENVIRONMENT)
        text = CONFIG.substitute(env=words, networks=self.cache.images / "networks")
        if not config.exists() or config.read_text() != text:
            config.write_text(text)
        return {
            **os.environ,
            "PATH": f"{os.environ.get('PATH', '')}:{ADMIN_PATH}",
            "CONTAINERS_CONF": str(config),
            "TMPDIR": str(temporary),
            "BUILDAH_ISOLATION": "chroot",
        }


def base_folder(cache: Cache, name: str) -> Path:
    """Return an empty folder to put an image's files into; the caller removes it."""
    folder = cache.images / "work" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
