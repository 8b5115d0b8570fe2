"""The cluster as the tests have it: images, the chart, namespaces, artifacts and models."""

import base64
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final, Self

import httpx
from obstore.store import S3Store

from localcluster.image import ImageBuild
from localcluster.names import canonical
from localcluster.namespaces import inside
from localcluster.paths import DEFAULT_NAME, Cache, ClusterPaths
from localcluster.provider import Provider, choose, make
from localcluster.report import Report
from testkit.cluster_api import Api, Manifest, is_ready
from testkit.cluster_models import SECRET, merge, model_deployment, write_artifacts
from testkit.cluster_traffic import OK, Route

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts" / "modelyard"
OPERATOR_NAMESPACE: Final = "modelyard-system"
OPERATOR: Final = "modelyard"
OPERATOR_SELECTOR: Final = "app.kubernetes.io/component=operator"
OPERATOR_IMAGE: Final = "modelyard/operator"
RUNTIME_IMAGE: Final = "modelyard/runtime"
TAG: Final = "dev"
SLIM_IMAGE: Final = f"{RUNTIME_IMAGE}:{TAG}-slim"
INGRESS_CLASS: Final = "nginx"
PROXY_NAMESPACES: Final = ("traefik", "envoy-gateway-system")
GENERIC: Final = "generic"
"""A Gateway of Traefik whose class the operator is told to trust with the core of the API alone."""
PROMETHEUS_NAMESPACE: Final = "monitoring"
BUCKET: Final = "models"
READY_S: Final = 150.0
ANSWERED_S: Final = 60.0
EVENT_S: Final = 5.0
WORKERS: Final = 4


@dataclass(frozen=True)
class Lab:
    """Everything that a test needs of the cluster.

    Attributes:
        provider: Who provides it.
        api: The API server.
        prefix: Where this session's artifacts lie: `s3://bucket/folder`.
        executor: Runs what takes long beside the tests.
    """

    provider: Provider
    api: Api
    prefix: str
    executor: ThreadPoolExecutor

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> CompletedProcess[str]:
        call = self.provider.invocation(["kubectl", *arguments])
        done = subprocess.run(
            call.argv, env=call.env, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    def start_kubectl(self, *arguments: str) -> subprocess.Popen[str]:
        call = self.provider.invocation(["kubectl", *arguments])
        return subprocess.Popen(
            call.argv, env=call.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def helm(self, *arguments: str) -> None:
        call = self.provider.invocation(["helm", *arguments])
        done = subprocess.run(call.argv, env=call.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    @property
    def operator_env(self) -> dict[str, str]:
        """The environment that the chart gives to the operator."""
        workload = self.api.need("Deployment", OPERATOR_NAMESPACE, OPERATOR)
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        # Network policies name it, and must stay as they are when another operator takes over.
        return {**given, "MODELYARD_OPERATOR_POD_NAMESPACE": OPERATOR_NAMESPACE}

    def operator_rss(self) -> int:
        """Resident memory of the chart's operator in bytes, as it tells itself."""
        (pod,) = self.api.all("Pod", OPERATOR_NAMESPACE, OPERATOR_SELECTOR)
        text = httpx.get(f"http://{pod['status']['podIP']}:9090/metrics").text
        (line,) = re.findall(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
        return int(float(line))

    def address(self, namespace: str, service: str, port: int) -> str:
        """Return where a Service answers; the session runs inside the cluster's network."""
        found = self.api.need("Service", namespace, service)
        return f"{found['spec']['clusterIP']}:{port}"

    def bucket(self) -> S3Store:
        """Return the bucket that models are served from."""
        return S3Store(
            BUCKET,
            endpoint=f"http://{self.address('s3', 's3', 9000)}",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
            **_credentials(self.api.need("Secret", "s3", SECRET)),
        )

    def give_credentials(self, namespace: str, name: str) -> None:
        """Create the Secret with which pods of a namespace read from the bucket."""
        kept = self.api.need("Secret", "s3", SECRET)["data"]
        data = {key: value for key, value in kept.items() if key != "AWS_ENDPOINT_URL"}
        self.api.create("Secret", namespace, {"metadata": {"name": name}, "data": data})

    @contextmanager
    def bench(self, hint: str) -> Iterator["Bench"]:
        """Lend a namespace with the credentials of the bucket; nobody waits for its end."""
        name = f"t-{hint}-{uuid.uuid4().hex[:5]}"
        self.api.create("Namespace", "", {"metadata": {"name": name}})
        try:
            yield self._furnish(name)
        finally:
            self.api.delete("Namespace", "", name)

    def _furnish(self, name: str) -> "Bench":
        self.give_credentials(name, SECRET)
        return Bench(self, name, self.address("traefik", "traefik", 80))


@dataclass(frozen=True)
class Bench:
    """A namespace of one's own.

    Attributes:
        lab: The cluster.
        namespace: Its name.
        proxy: Address of the proxy.
    """

    lab: Lab
    namespace: str
    proxy: str

    def host(self, name: str) -> str:
        return f"{name}.{self.namespace}.example.com"

    def serve(self, name: str, *, routed: bool = True, **spec: Any) -> "Served":
        """Create a ModelDeployment of version 1; does not wait for anything."""
        hosts = (self.host(name),) if routed else ()
        manifest = model_deployment(name, self.lab.prefix, hosts=hosts, **spec)
        self.lab.api.create("ModelDeployment", self.namespace, manifest)
        return Served(self, name, Route(self.proxy, self.host(name), name))


@dataclass(frozen=True)
class Served:
    """A ModelDeployment in a namespace.

    Attributes:
        bench: The namespace.
        name: Name of the object.
        route: Where requests go.
    """

    bench: Bench
    name: str
    route: Route

    @property
    def api(self) -> Api:
        return self.bench.lab.api

    @property
    def namespace(self) -> str:
        return self.bench.namespace

    @property
    def selector(self) -> str:
        return f"modelyard.dev/model-deployment={self.name}"

    def get(self) -> Manifest:
        return self.api.need("ModelDeployment", self.namespace, self.name)

    def edit(self, **spec: Any) -> Manifest:
        """Merge into the spec."""
        return self._patch({"spec": spec})

    def edit_to(self, number: int, **spec: Any) -> Manifest:
        """Ask for another version of the model."""
        model = {"uri": f"{self.bench.lab.prefix}/v{number}", "version": str(number)}
        return self.edit(**merge({"model": model}, spec))

    def command(self, text: str) -> Manifest:
        return self._patch({"metadata": {"annotations": {"modelyard.dev/rollout": text}}})

    def until(self, holds: Any, timeout_s: float = READY_S) -> Manifest:
        return self.api.until("ModelDeployment", self.namespace, self.name, holds, timeout_s)

    def until_ready(self, timeout_s: float = READY_S) -> Manifest:
        return self.until(is_ready, timeout_s)

    def until_answered(self, timeout_s: float = ANSWERED_S) -> None:
        """Wait until the proxy has the route, which takes it longer on a busy machine."""
        deadline = time.monotonic() + timeout_s
        while (answer := self.route.ask()).status != OK:
            assert time.monotonic() < deadline, answer
            time.sleep(0.2)

    def all(self, kind: str) -> list[Manifest]:
        return self.api.all(kind, self.namespace, self.selector)

    def pods(self, revision: str = "") -> list[Manifest]:
        """Pods that stay, of all revisions or of one."""
        return [
            pod
            for pod in self.all("Pod")
            if "deletionTimestamp" not in pod["metadata"]
            and revision in {"", pod["metadata"]["labels"]["modelyard.dev/revision"]}
        ]

    def until_event(self, reason: str, says: str = "", *, lacks: str = "\n") -> Manifest:
        """Wait for the only Event with a reason, with some words and without others.

        Status tells already by then.
        """
        deadline = time.monotonic() + EVENT_S
        found: list[Manifest] = []
        while not found:
            assert time.monotonic() < deadline, f"no Event {reason}: {says}"
            time.sleep(0.1)
            events = [(one, one["message"]) for one in self.events(reason)]
            found = [one for one, text in events if says in text and lacks not in text]
        (event,) = found
        return event

    def events(self, reason: str) -> list[Manifest]:
        """Events about the object with a reason."""
        return [
            event
            for event in self.api.all("Event", self.namespace)
            if event["reason"] == reason
            and event["involvedObject"]["kind"] == "ModelDeployment"
            and event["involvedObject"]["name"] == self.name
        ]

    def at(self, path: str) -> Self:
        """The same with the route's path."""
        return replace(self, route=replace(self.route, path=path))

    def _patch(self, body: Manifest) -> Manifest:
        return self.api.patch("ModelDeployment", self.namespace, self.name, body)


@contextmanager
def open_lab(folder: Path) -> Iterator[Lab]:
    """Build images, install the chart and upload the artifacts.

    Args:
        folder: Empty folder for temporary files.
    """
    name = os.environ.get("MODELYARD_CLUSTER", DEFAULT_NAME)
    paths = ClusterPaths(Cache.from_environment(os.environ), name)
    chosen = choose(os.environ.get("CLUSTER", "auto"), os.environ, None)
    provider = make(chosen, paths, Report(), None)
    digest = _build_images(provider)
    network: AbstractContextManager[None] = nullcontext()
    if chosen == "local":
        network = inside(paths.network_namespace)
    with (
        network,
        Api.of(provider.kubeconfig) as api,
        ThreadPoolExecutor(max_workers=WORKERS) as executor,
    ):
        prefix = f"tests/{uuid.uuid4().hex[:8]}"
        lab = Lab(provider, api, f"s3://{BUCKET}/{prefix}", executor)
        installed = executor.submit(_install, lab, digest)
        _add_generic_gateway(lab)
        _upload(lab, folder, prefix)
        installed.result()
        yield lab


def _build_images(provider: Provider) -> str:
    """Build what is not built yet; returns the digest of the operator's inputs."""
    operator = ImageBuild(canonical(f"{OPERATOR_IMAGE}:{TAG}"), ROOT / "Dockerfile.operator", ROOT)
    runtime = ImageBuild(canonical(SLIM_IMAGE), ROOT / "Dockerfile.runtime", ROOT, target="slim")
    for build in (operator, runtime):
        provider.build_image(build)
    return operator.digest()[:16]


def _install(lab: Lab, digest: str) -> None:
    values = {
        "image.repository": OPERATOR_IMAGE,
        "image.tag": TAG,
        "runtime.image": f"{RUNTIME_IMAGE}:{TAG}-torch",
        "runtime.slimImage": SLIM_IMAGE,
        f"ingressClassProfiles.{INGRESS_CLASS}": "traefik-nginx",
        f"gatewayClassProfiles.{GENERIC}": GENERIC,
        "proxyNamespaces": f"{{{','.join(PROXY_NAMESPACES)}}}",
        "prometheusNamespaces": f"{{{PROMETHEUS_NAMESPACE}}}",
        # The tag stays when the code changes; this makes the pod change with it.
        r"podAnnotations.modelyard\.dev/inputs": digest,
    }
    lab.helm(
        *("upgrade", "--install", OPERATOR, str(CHART), f"--namespace={OPERATOR_NAMESPACE}"),
        *("--create-namespace", "--take-ownership", "--force-conflicts", "--wait", "--timeout=5m"),
        *(word for name, value in values.items() for word in ("--set-string", f"{name}={value}")),
    )


def _add_generic_gateway(lab: Lab) -> None:
    """Create a Gateway beside the public one of Traefik, where the cluster has that."""
    public = lab.api.get("Gateway", "traefik", "public")
    if public is None or lab.api.get("Gateway", "traefik", GENERIC):
        return
    controller = {"controllerName": "traefik.io/gateway-controller"}
    meant = {"apiVersion": public["apiVersion"], "metadata": {"name": GENERIC}}
    lab.api.create("GatewayClass", "", {**meant, "kind": "GatewayClass", "spec": controller})
    spec = {**public["spec"], "gatewayClassName": GENERIC}
    lab.api.create("Gateway", "traefik", {**meant, "kind": "Gateway", "spec": spec})


def _upload(lab: Lab, folder: Path, prefix: str) -> None:
    write_artifacts(folder)
    store = lab.bucket()
    for path in sorted(folder.rglob("*.*")):
        store.put(f"{prefix}/{path.relative_to(folder)}", path)


def _credentials(secret: Manifest) -> dict[str, Any]:
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    return {
        "access_key_id": data["AWS_ACCESS_KEY_ID"],
        "secret_access_key": data["AWS_SECRET_ACCESS_KEY"],
        "region": data["AWS_REGION"],
    }
