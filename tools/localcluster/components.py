"""The processes of a local cluster: how each is started and when it is ready."""

from __future__ import annotations

import hashlib
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

import grpc

from localcluster import versions
from localcluster.namespaces import NODE_ADDRESS, connect

if TYPE_CHECKING:
    from localcluster.paths import ClusterPaths

CONFIG_SOURCE: Final = Path(__file__).parent / "config"
CONFIG_FILES: Final = {
    "audit-policy.yaml": "audit-policy.yaml",
    "cni.conflist": "cni/10-bridge.conflist",
    "containerd.toml": "containerd.toml",
    "hosts.toml": "registries/_default/hosts.toml",
    "kubelet.yaml": "kubelet.yaml",
    "kube-proxy.yaml": "kube-proxy.yaml",
    "Corefile": "Corefile",
    "resolv.conf": "resolv.conf",
}
"""Each template with the place of the rendered file."""
PROBE_TIMEOUT_S: Final = 5.0
CRI_VERSION: Final = "/runtime.v1.RuntimeService/Version"
"""A request without fields: https://github.com/kubernetes/cri-api."""
SERVICES: Final = "10.96.0.0/16"
ETCD: Final = "http://127.0.0.1:2379"


@dataclass(frozen=True)
class Component:
    """One process of the cluster.

    Attributes:
        name: Its name in ``status``, and of its log file.
        argv: Program and arguments.
        probe: Where it says that it is ready: an http(s) address in the cluster's network,
            or the socket of a container runtime.
        config: A file whose change asks for a restart.
    """

    name: str
    argv: tuple[str, ...]
    probe: str
    config: Path | None = None

    def fingerprint(self) -> str:
        """Return a digest of all that the process is started with."""
        digest = hashlib.sha256(repr(self.argv).encode())
        if self.config is not None:
            digest.update(self.config.read_bytes())
        return digest.hexdigest()[:16]

    def is_ready(self, network_namespace: Path) -> bool:
        """Ask the component once whether it is ready."""
        try:
            if self.probe.startswith("/"):
                return answers_kubelet(self.probe)
            return get_status(network_namespace, self.probe) == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def answers_kubelet(container_runtime: str) -> bool:
    """Tell whether a container runtime is ready for a kubelet, which would end if it was not.

    It takes connections a second before that, and longer on a busy machine.
    """
    with grpc.insecure_channel(f"unix:{container_runtime}") as channel:
        try:
            channel.unary_unary(CRI_VERSION)(b"", timeout=PROBE_TIMEOUT_S)
        except grpc.RpcError:
            return False
    return True


def get_status(network_namespace: Path, url: str) -> int:
    """Return the status code of a GET inside the cluster's network."""
    scheme, _, rest = url.partition("://")
    address, _, path = rest.partition("/")
    host, _, port = address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PROBE_TIMEOUT_S)
    sock = connect(network_namespace, (host, int(port)), PROBE_TIMEOUT_S)
    try:
        if scheme == "https":
            # A health check carries no secret, and some components sign their own certificate.
            context = ssl._create_unverified_context()  # noqa: S323, SLF001
            sock = context.wrap_socket(sock)
        connection.sock = sock
        connection.request("GET", f"/{path}")
        return connection.getresponse().status
    finally:
        connection.close()
        sock.close()


def render_config(paths: ClusterPaths) -> None:
    """Write the configuration files of all components."""
    values = {
        "root": paths.root,
        "config": paths.config,
        "pki": paths.pki,
        "containerd_root": paths.containerd_root,
        "containerd_socket": paths.containerd_socket,
        "machine_name": paths.machine_name,
        "node_address": NODE_ADDRESS,
        "pause_image": versions.PAUSE_IMAGE,
    }
    for source, target in CONFIG_FILES.items():
        path = paths.config / target
        path.parent.mkdir(parents=True, exist_ok=True)
        template = Template((CONFIG_SOURCE / source).read_text(encoding="utf-8"))
        text = template.substitute(values)
        # kube-proxy ends when its file is written, were it with the same words.
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def control_plane(paths: ClusterPaths, kubernetes: Path) -> list[Component]:
    """Return etcd, the API server and what must not start before it is ready."""
    pki = paths.pki
    return [
        Component(
            "etcd",
            (
                f"{kubernetes}/etcd",
                f"--data-dir={paths.root}/etcd",
                f"--listen-client-urls={ETCD}",
                f"--advertise-client-urls={ETCD}",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--log-level=warn",
                # Nothing here must survive a power cut, and syncing is what is slow on a disk.
                "--unsafe-no-fsync",
            ),
            f"{ETCD}/health",
        ),
        _api_server(paths, kubernetes),
        Component(
            "controller-manager",
            (
                f"{kubernetes}/kube-controller-manager",
                *_as_client(pki / "controller-manager.kubeconfig"),
                f"--service-account-private-key-file={pki}/service-accounts.key",
                f"--root-ca-file={pki}/ca.crt",
                f"--cluster-signing-cert-file={pki}/ca.crt",
                f"--cluster-signing-key-file={pki}/ca.key",
                "--use-service-account-credentials",
                f"--flex-volume-plugin-dir={paths.root}/volume-plugins",
                "--allocate-node-cidrs",
                "--cluster-cidr=10.88.0.0/16",
                f"--service-cluster-ip-range={SERVICES}",
                # By itself it asks 20 times a second: too few to collect what many tests leave at once.
                "--kube-api-qps=200",
                "--kube-api-burst=400",
                # Autoscaling at the speed of a test.
                "--horizontal-pod-autoscaler-sync-period=5s",
                "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
                "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
            ),
            "https://127.0.0.1:10257/healthz",
        ),
        Component(
            "scheduler",
            (f"{kubernetes}/kube-scheduler", *_as_client(pki / "scheduler.kubeconfig")),
            "https://127.0.0.1:10259/healthz",
        ),
    ]


def _as_client(kubeconfig: Path) -> tuple[str, ...]:
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        # The default of 20 requests a second is the first bottleneck of a test at scale.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    )


def _api_server(paths: ClusterPaths, kubernetes: Path) -> Component:
    pki = paths.pki
    policy = paths.config / "audit-policy.yaml"
    return Component(
        "apiserver",
        (
            f"{kubernetes}/kube-apiserver",
            f"--etcd-servers={ETCD}",
            f"--bind-address={NODE_ADDRESS}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki}/service-accounts.pub",
            f"--service-account-signing-key-file={pki}/service-accounts.key",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged",
            f"--kubelet-client-certificate={pki}/apiserver-to-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-to-kubelet.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            # Without it, logs and exec look for the node's name in DNS.
            "--kubelet-preferred-address-types=InternalIP",
            # Aggregated APIs (metrics) are reached at their pods.
            "--enable-aggregator-routing",
            f"--requestheader-client-ca-file={pki}/ca.crt",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki}/front-proxy.crt",
            f"--proxy-client-key-file={pki}/front-proxy.key",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={paths.audit_log}",
        ),
        f"https://{NODE_ADDRESS}:6443/readyz",
        policy,
    )


def node(paths: ClusterPaths, kubernetes: Path, containerd: Path) -> list[Component]:
    """Return the container runtime, and then what needs its socket."""
    config = paths.config
    return [
        Component(
            "containerd",
            (f"{containerd}/containerd", f"--config={config}/containerd.toml"),
            str(paths.containerd_socket),
            config / "containerd.toml",
        ),
        Component(
            "kubelet",
            (
                f"{kubernetes}/kubelet",
                f"--config={config}/kubelet.yaml",
                f"--kubeconfig={paths.pki}/kubelet.kubeconfig",
                f"--root-dir={paths.root}/kubelet",
                "--hostname-override=node0",
                f"--node-ip={NODE_ADDRESS}",
                "--node-labels=nvidia.com/gpu.product=NVIDIA-L4",
            ),
            "http://127.0.0.1:10248/healthz",
            config / "kubelet.yaml",
        ),
        Component(
            "kube-proxy",
            (f"{kubernetes}/kube-proxy", f"--config={config}/kube-proxy.yaml"),
            "http://127.0.0.1:10256/healthz",
            config / "kube-proxy.yaml",
        ),
    ]


def dns(paths: ClusterPaths, coredns: Path) -> Component:
    """Return CoreDNS, which answers on the node's own address."""
    config = paths.config / "Corefile"
    return Component(
        "coredns",
        (f"{coredns}/coredns", "-conf", str(config)),
        "http://127.0.0.1:8181/ready",
        config,
    )
