"""Image builds without Docker: buildah with all of its storage in the cache."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Final

from localcluster.packages import ADMIN_PATH
from localcluster.processes import run, succeeds
from localcluster.provider import Invocation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from localcluster.image import ImageBuild
    from localcluster.paths import Cache

STEP_LAYER: Final = re.compile(r"^--> (?:Using cache )?([0-9a-f]{11})", re.MULTILINE)
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

    def label(self, image: str, name: str) -> str:
        """Return a label of an image; empty where there is no such image, or no such label."""
        if not self.has(image):
            return ""
        form = f'{{{{index .OCIv1.Config.Labels "{name}"}}}}'
        return self._run("inspect", "--type", "image", "--format", form, image).strip()

    def build(self, build: ImageBuild) -> None:
        """Build one image from its Dockerfile, layer by layer, reusing what has not changed."""
        options = [f"--build-arg={key}={value}" for key, value in build.build_args.items()]
        if build.target:
            options.append(f"--target={build.target}")
        shared = ("/etc/ssl/certs", "/etc/resolv.conf")
        options.extend(f"--volume={path}:{path}:ro" for path in shared)
        output = self._run(
            *("build", "--layers", "--isolation=chroot", "--pull=never"),
            *options,
            f"--tag={build.name}",
            f"--file={build.dockerfile}",
            str(build.context),
        )
        self._forget_layers(build.name, output)

    def from_folder(
        self, image: str, folder: Path, config: Sequence[str], *, base: str = "scratch"
    ) -> None:
        """Make an image of one layer from a folder.

        Args:
            image: Its name.
            folder: What becomes its root.
            config: Options of ``buildah config``: entry point, environment.
            base: The image that the layer lies on.
        """
        container = self._run("from", "--pull=never", base).strip()
        try:
            self._run("add", "--quiet", container, str(folder), "/")
            self._run("config", *config, container)
            self._run("commit", "--quiet", container, image)
        finally:
            self._run("rm", container)

    def export(self, image: str) -> Invocation:
        """Return the command that writes an image to its standard output.

        The format is Docker's: the one in which layers stay uncompressed, for they are read once
        and on this machine.
        """
        argv = self._command("push", "--quiet", image, f"docker-archive:/dev/stdout:{image}")
        return Invocation(argv, self._environment())

    def _forget_layers(self, image: str, output: str) -> None:
        """Remove what the last build of this image used and no image's latest build does.

        Every step leaves a layer that speeds up the next build; without this, each change to a
        Dockerfile with torch would leave another 11 GB that nothing can use.
        """
        folder = self.cache.images / "steps"
        folder.mkdir(exist_ok=True)
        record = folder / f"{image.replace('/', '_')}.json"
        before = json.loads(record.read_text()) if record.exists() else []
        record.write_text(json.dumps(step_layers(output)))
        used = {layer for file in folder.glob("*.json") for layer in json.loads(file.read_text())}
        for layer in reversed(before):
            if layer not in used:
                succeeds(self._command("rmi", layer), env=self._environment())

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


def step_layers(output: str) -> list[str]:
    """Return the short ids of the layers that a build has made or used again, in order."""
    return list(dict.fromkeys(STEP_LAYER.findall(output)))


def base_folder(cache: Cache, name: str) -> Path:
    """Return an empty folder to put an image's files into; the caller removes it."""
    folder = cache.images / "work" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
