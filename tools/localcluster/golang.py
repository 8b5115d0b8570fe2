"""Programs built from their Go modules, once for each version."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localcluster import versions
from localcluster.errors import LocalClusterError
from localcluster.processes import run

if TYPE_CHECKING:
    from localcluster.paths import Cache
    from localcluster.report import Report

HYPERKUBE_SOURCE: Final = Path(__file__).parent / "hyperkube"
STRIP: Final = "-s -w"
COMPILER: Final = "compiler"
"""The lock of those who compile. One at a time: the compiler fills every core by itself."""
_CONTAINERD: Final = "github.com/containerd/containerd/v2"
_ENVOY_GATEWAY: Final = "github.com/envoyproxy/gateway"
_KUBERNETES_VERSION: Final = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Artifact:
    """One or several programs that are built together.

    Attributes:
        name: What it is, as it is shown and as its folder is named.
        version: The version, without a leading v.
        packages: Go packages for ``go install``; none when ``source`` is given.
        ldflags: Linker flags; most programs learn their version here.
        tags: Build tags.
        source: A folder with a module of ours to build instead.
        links: Names by which the one program of ``source`` is called.
        module: The module that ``files`` are taken from, with its version.
        files: Folders of that module that are kept beside the programs.
        minutes: What the first build takes on two cores, for the progress line.
    """

    name: str
    version: str
    packages: tuple[str, ...] = ()
    ldflags: str = STRIP
    tags: str = ""
    source: Path | None = None
    links: tuple[str, ...] = ()
    module: str = ""
    files: tuple[str, ...] = ()
    minutes: float = 2

    def key(self) -> str:
        """Return the folder's name: another for each version, flag or source text."""
        digest = hashlib.sha256(
            repr((self.packages, self.ldflags, self.tags, self.links, platform.machine())).encode()
        )
        for file in ("go.mod", "go.sum", "main.go") if self.source else ():
            digest.update((self.source or Path()).joinpath(file).read_bytes())
        digest.update("".join((self.module, *self.files)).encode())
        return f"{self.name}-{self.version}-{digest.hexdigest()[:8]}"


_MINOR: Final = versions.KUBERNETES.split(".")[1]
KUBERNETES: Final = Artifact(
    name="kubernetes",
    version=versions.KUBERNETES,
    source=HYPERKUBE_SOURCE,
    ldflags=(
        f"{STRIP} -X {_KUBERNETES_VERSION}.gitVersion=v{versions.KUBERNETES} "
        f"-X {_KUBERNETES_VERSION}.gitMajor=1 -X {_KUBERNETES_VERSION}.gitMinor={_MINOR}"
    ),
    links=(
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
    ),
    minutes=7,
)
CONTAINERD: Final = Artifact(
    name="containerd",
    version=versions.CONTAINERD,
    packages=tuple(
        f"{_CONTAINERD}/cmd/{program}@v{versions.CONTAINERD}"
        for program in ("containerd", "containerd-shim-runc-v2", "ctr")
    ),
    ldflags=f"{STRIP} -X {_CONTAINERD}/version.Version=v{versions.CONTAINERD}",
    tags="no_btrfs,no_aufs,no_zfs,no_devmapper",
    minutes=1,
)
HELM: Final = Artifact(
    name="helm",
    version=versions.HELM,
    packages=(f"helm.sh/helm/v4/cmd/helm@v{versions.HELM}",),
    ldflags=f"{STRIP} -X helm.sh/helm/v4/internal/version.version=v{versions.HELM}",
)
COREDNS: Final = Artifact(
    name="coredns",
    version=versions.COREDNS,
    packages=(f"github.com/coredns/coredns@v{versions.COREDNS}",),
)
VERSITYGW: Final = Artifact(
    name="versitygw",
    version=versions.VERSITYGW,
    packages=(f"github.com/versity/versitygw/cmd/versitygw@v{versions.VERSITYGW}",),
    minutes=1,
)
METRICS_SERVER: Final = Artifact(
    name="metrics-server",
    version=versions.METRICS_SERVER,
    packages=(f"sigs.k8s.io/metrics-server/cmd/metrics-server@v{versions.METRICS_SERVER}",),
)
GATEWAY_API: Final = Artifact(
    name="gateway-api",
    version=versions.GATEWAY_API,
    module=f"sigs.k8s.io/gateway-api@v{versions.GATEWAY_API}",
    files=("config/crd/standard",),
    minutes=0.2,
)
ENVOY_GATEWAY: Final = Artifact(
    name="envoy-gateway",
    version=versions.ENVOY_GATEWAY,
    packages=(f"{_ENVOY_GATEWAY}/cmd/envoy-gateway@v{versions.ENVOY_GATEWAY}",),
    module=f"{_ENVOY_GATEWAY}@v{versions.ENVOY_GATEWAY}",
    files=("charts/gateway-helm",),
    minutes=3,
)


def environment(cache: Cache) -> dict[str, str]:
    """Return the environment of Go: all that it keeps lies in the cache."""
    return {
        **os.environ,
        "GOPATH": str(cache.go),
        "GOMODCACHE": str(cache.go / "mod"),
        "GOCACHE": str(cache.go / "build"),
        "GOFLAGS": "-trimpath -buildvcs=false",
        "GOTOOLCHAIN": "auto",
        # Go counts its own use in the home folder otherwise; there is no public name for this.
        "TEST_TELEMETRY_DIR": str(cache.go / "telemetry"),
        "CGO_ENABLED": "0",
    }


def folder(cache: Cache, artifact: Artifact) -> Path:
    """Return where an artifact's programs are, or will be."""
    return cache.programs / artifact.key()


def ensure(cache: Cache, artifact: Artifact, report: Report) -> Path:
    """Build an artifact unless the cache has it.

    Returns:
        The folder of its programs.
    """
    target = folder(cache, artifact)
    if target.is_dir():
        return target
    with cache.lock(COMPILER):
        if target.is_dir():
            return target
        title = f"{artifact.name} {artifact.version} from source"
        with report.step(title, f"first time only, about {artifact.minutes:g} min"):
            partial = target.with_name(f".{target.name}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _build(cache, artifact, partial)
            partial.rename(target)
    return target


def tidy(cache: Cache) -> None:
    """Remove what only a compiler needs: gigabytes that the next version could not use.

    While another run compiles nothing is removed: that run needs it, and tidies up at its own end.
    """
    with cache.lock_if_free(COMPILER) as held:
        for part in ("build", "telemetry") if held else ():
            shutil.rmtree(cache.go / part, ignore_errors=True)


def _build(cache: Cache, artifact: Artifact, target: Path) -> None:
    env = {**environment(cache), "GOBIN": str(target)}
    go = _go(cache)
    flags = [f"-ldflags={artifact.ldflags}", *([f"-tags={artifact.tags}"] if artifact.tags else [])]
    if artifact.packages:
        run([go, "install", *flags, *artifact.packages], env=env)
    if artifact.files:
        module = json.loads(run([go, "mod", "download", "-json", artifact.module], env=env))
        for folder in artifact.files:
            shutil.copytree(Path(module["Dir"], folder), target / Path(folder).name)
    if artifact.source is None:
        return
    program = target / artifact.source.name
    run([go, "build", *flags, "-o", str(program), "."], env=env, cwd=artifact.source)
    for link in artifact.links:
        (target / link).symlink_to(program.name)


def _go(cache: Cache) -> str:
    """Return the ``go`` program: the machine's own, or one from the proxy in GOPROXY."""
    own = shutil.which("go")
    if own is not None:
        return own
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    release = f"v0.0.1-go{versions.GO}.linux-{machine}"
    go = cache.go / f"golang.org/toolchain@{release}" / "bin" / "go"
    if not go.exists():
        proxy = _proxy(os.environ.get("GOPROXY", ""))
        archive = cache.go / "toolchain.zip"
        archive.parent.mkdir(parents=True, exist_ok=True)
        urllib.request.urlretrieve(f"{proxy}/golang.org/toolchain/@v/{release}.zip", archive)  # noqa: S310
        with zipfile.ZipFile(archive) as content:
            content.extractall(cache.go)
        archive.unlink()
        for file in [*go.parent.iterdir(), *go.parent.parent.glob("pkg/tool/*/*")]:
            file.chmod(0o755)
    return str(go)


def _proxy(setting: str) -> str:
    """Return the first address in a value of GOPROXY; ``direct`` and ``off`` are none."""
    for word in re.split("[,|]", setting):
        if "://" in word:
            return word.strip().rstrip("/")
    raise LocalClusterError(
        "go is not installed here: install it, or set GOPROXY to the address of a Go module proxy "
        "and this tool takes it from there"
    )
