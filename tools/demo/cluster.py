"""The demo's hands: kubectl, helm and programs of its own, run where the cluster is reachable."""

from __future__ import annotations

import base64
import json
import queue
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from demo.errors import DemoError
from demo.options import BUCKET, MODEL, NAMESPACE, OPERATOR_NAMESPACE, RELEASE, ROOT
from localcluster.errors import CommandError
from localcluster.processes import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from localcluster.provider import Provider

FORWARDING: Final = re.compile(r"Forwarding from (127\.0\.0\.1:\d+) ->")
STOP_S: Final = 5.0
INSTALL_S: Final = 180
READY_S: Final = 300


class Cluster:
    """One cluster, whoever provides it.

    Attributes:
        provider: Who that is.
    """

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def run(
        self, *argv: str, stdin: str | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a program to its end and return what it prints.

        Args:
            argv: Program and arguments.
            stdin: Text for its standard input.
            env: Variables that it gets in addition.

        Raises:
            DemoError: It ended with another code than 0.
        """
        call = self.provider.invocation(argv)
        try:
            return run(call.argv, env={**call.env, **(env or {})}, cwd=ROOT, stdin=stdin)
        except CommandError as error:
            raise DemoError(str(error)) from error

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints."""
        return self.run("kubectl", *arguments, stdin=stdin)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return what ``kubectl get`` prints as JSON."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "--output=json", *arguments))
        return found

    def exists(self, *arguments: str) -> bool:
        """Return whether an object exists."""
        return bool(self.kubectl("get", "--ignore-not-found", "--output=name", *arguments).strip())

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program whose output is read while it runs."""
        call = self.provider.invocation(argv)
        return subprocess.Popen(
            call.argv,
            env=call.env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def address(self, namespace: str, service: str, port: int) -> Iterator[str]:
        """Give an address, ``host:port``, at which the demo's programs reach a Service.

        A local cluster's Services are reached directly; for others a tunnel stays open meanwhile.
        """
        if self.provider.name == "local":
            found = self.get("service", service, f"--namespace={namespace}")
            yield f"{found['spec']['clusterIP']}:{port}"
            return
        tunnel = self.start(
            *("kubectl", "port-forward", f"--namespace={namespace}"),
            *("--address=127.0.0.1", f"service/{service}", f":{port}"),
        )
        try:
            line = tunnel.stdout.readline() if tunnel.stdout else ""
            match = FORWARDING.match(line)
            if match is None:
                raise DemoError(
                    f"kubectl port-forward to {namespace}/{service} does not start; give the "
                    "proxy's address with --proxy-address"
                )
            yield match[1]
        finally:
            stop(tunnel)

    def upload(self, folder: Path, keys: Sequence[str]) -> None:
        """Copy models into the bucket of the cluster's S3 server."""
        found = self.get("secret", "s3-credentials", "--namespace=s3")
        credentials = {key: _decode(value) for key, value in found["data"].items()}
        credentials.pop("AWS_ENDPOINT_URL", None)
        with self.address("s3", "s3", 9000) as address:
            self.run(
                *(sys.executable, "-m", "demo.upload"),
                *(f"--endpoint=http://{address}", f"--bucket={BUCKET}", str(folder), *keys),
                env=credentials,
            )

    def copy_credentials(self, name: str) -> None:
        """Give the demo's namespace the Secret that reads from the bucket."""
        found = self.get("secret", "s3-credentials", "--namespace=s3")
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "data": {k: v for k, v in found["data"].items() if k != "AWS_ENDPOINT_URL"},
        }
        self.kubectl("apply", "--filename=-", stdin=json.dumps(secret))

    def install(self, values: Sequence[str]) -> None:
        """Install or upgrade the chart and wait for the operator.

        Args:
            values: ``key=value``, as ``helm --set-string`` takes them.

        Raises:
            DemoError: It does not come up; with the end of the operator's log.
        """
        place = f"--namespace={OPERATOR_NAMESPACE}"
        try:
            self.run(
                *("helm", "upgrade", "--install", RELEASE, "charts/modelyard", place),
                *("--create-namespace", "--wait", f"--timeout={INSTALL_S}s"),
                *(word for value in values for word in ("--set-string", value)),
            )
        except DemoError as error:
            try:
                log = self.kubectl("logs", f"deployment/{RELEASE}", place, "--tail=15")
            except DemoError:
                raise error from None
            raise DemoError(f"{error}\nThe operator's log ends with:\n{log}") from error

    def wait_ready(self, name: str) -> None:
        """Wait until a ModelDeployment is Ready.

        Raises:
            DemoError: It is not, and what its status says about it.
        """
        try:
            self.kubectl(
                *("wait", "--for=condition=Ready", f"mdep/{name}", f"--namespace={NAMESPACE}"),
                f"--timeout={READY_S}s",
            )
        except DemoError as error:
            status = self.get("mdep", name, f"--namespace={NAMESPACE}").get("status", {})
            raise DemoError(f"{name} is not ready: {explain(status)}") from error


class StatusWatch:
    """Follows the status of the model, in a thread of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self._seen: queue.SimpleQueue[tuple[float, dict[str, Any]]] = queue.SimpleQueue()
        self._process = cluster.start(
            *("kubectl", "get", "mdep", MODEL, f"--namespace={NAMESPACE}", "--watch"),
            '--output=jsonpath={.status}{"\\n"}',
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._process.poll() is not None

    def take(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Yield each status that has come since the last call, with the time at which it came."""
        while not self._seen.empty():
            yield self._seen.get()

    def stop(self) -> None:
        """Stop following."""
        stop(self._process)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if line.startswith("{"):
                self._seen.put((time.monotonic(), json.loads(line)))


def stop(process: subprocess.Popen[str]) -> None:
    """Terminate a program and wait for its end."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def explain(status: Mapping[str, Any]) -> str:
    """Return what a status says about why its object is not ready."""
    failure = status.get("failure") or {}
    if failure:
        return f"{failure.get('reason')}: {failure.get('message')} ({failure.get('hint')})"
    for condition in status.get("conditions") or ():
        if condition["type"] == "Ready":
            return f"{condition['reason']}: {condition['message']}"
    return "it has no status: is the operator running?"


def _decode(value: str) -> str:
    return base64.b64decode(value).decode()
