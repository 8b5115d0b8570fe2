"""The story, in the order in which it is told; every section does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from demo import checks
from demo.canary import Canary
from demo.client import Target
from demo.errors import DemoError
from demo.load import Clients
from demo.models import HELD_OUT_FILE, read_report
from demo.options import (
    EXAMPLES,
    HOST,
    MODEL,
    NAMESPACE,
    OPERATOR_NAMESPACE,
    RELEASE,
    ROOT,
    SKLEARN_HOST,
    SKLEARN_MODEL,
)
from demo.rollout import Rollout
from demo.samples import summarize

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from demo.checks import Check
    from demo.cluster import Cluster
    from demo.images import Images
    from demo.models import Trained
    from demo.narrator import Narrator
    from demo.options import Options
    from demo.samples import Summary

SECRET: Final = "s3"  # noqa: S105 - the Secret's name


class Story:
    """Everything that the demo does with a cluster.

    Args:
        cluster: Where it happens.
        narrator: Who tells it.
        options: What the user wants.
        folder: A temporary folder for the models.
    """

    def __init__(
        self, cluster: Cluster, narrator: Narrator, options: Options, folder: Path
    ) -> None:
        self._cluster = cluster
        self._narrator = narrator
        self._options = options
        self._proxy = options.proxy
        self._folder = folder
        self._clients = Clients(cluster, folder / HELD_OUT_FILE)
        self._checks: list[Check] = []
        self._summaries: list[Summary] = []
        self._trained: list[Trained] = []

    def tell(self, images: Images) -> list[Check]:
        """Do it all.

        Args:
            images: What pods run.

        Returns:
            What was promised, and whether it holds.
        """
        self._prepare(images)
        if self._options.install:
            self._install(images)
        self._serve_sklearn(images)
        with self._address() as address:
            first = self._serve_first(images, address)
            second = self._roll_out(address)
            self._checks.append(checks.check_better(first, second))
            self._checks.append(checks.check_failures(self._summaries))
            self._roll_back(address)
        self._conclude()
        return self._checks

    # --- a cluster, and models ------------------------------------------------------------

    def _prepare(self, images: Images) -> None:
        say = self._narrator
        say.section("A cluster, and three models of handwritten digits")
        argv = [sys.executable, "-m", "demo.training", str(self._folder)]
        training = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            provider, addons = self._cluster.provider, self._proxy.addons
            with say.step(f"cluster ({provider.name}) with {', '.join(addons)}"):
                provider.up(addons)
            self._clear()
            images.start()
            with say.step("train three models on 1,297 of the 1,797 scans", "some seconds"):
                _, told = training.communicate()
        finally:
            training.kill()
            training.wait()
        if training.returncode != 0:
            raise DemoError(f"training failed: {told.strip()[-1000:]}")
        self._trained = read_report(self._folder)
        for model in self._trained:
            say.tell(f"{model.key:<26} {model.what:<33} {model.accuracy:.1%} of 500 held-out")
        with say.step("upload them to s3://models"):
            self._cluster.upload(self._folder, [model.key for model in self._trained])

    def _clear(self) -> None:
        """Begin to remove what an earlier demo has left, so that version 1 is the first again."""
        if self._cluster.exists("namespace", NAMESPACE):
            self._narrator.tell("An earlier demo still runs here; it is removed meanwhile.")
            self._cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")

    def _make_namespace(self) -> None:
        if self._cluster.exists("namespace", NAMESPACE):
            with self._narrator.step("wait until the earlier demo is gone"):
                self._cluster.kubectl(
                    "wait", "--for=delete", f"namespace/{NAMESPACE}", "--timeout=180s"
                )
        self._cluster.kubectl("create", "namespace", NAMESPACE)
        self._cluster.copy_credentials(SECRET)

    # --- the operator ---------------------------------------------------------------------

    def _install(self, images: Images) -> None:
        self._narrator.section("Install the operator")
        images.wait("operator")
        options = self._options
        values = [
            f"image.repository={options.operator_repository}",
            f"image.tag={options.tag}",
            f"runtime.image={options.torch_image}",
            f"runtime.slimImage={options.slim_image}",
        ]
        routing = [f"{key}={value}" for key, value in self._proxy.values.items()]
        if images.are_built:
            # The tag stays when the code changes; this makes the pod change with it.
            digest = images.builds["operator"].digest()[:16]
            values.append(f"podAnnotations.modelyard\\.dev/inputs={digest}")
        self._narrator.command(
            f"helm upgrade --install {RELEASE} charts/modelyard -n {OPERATOR_NAMESPACE}"
            f" --create-namespace {' '.join(f'--set {value}' for value in routing)} …"
        )
        with self._narrator.step("chart and operator"):
            self._cluster.install([*values, *routing])

    # --- the first models -----------------------------------------------------------------

    def _serve_sklearn(self, images: Images) -> None:
        self._narrator.section("A scikit-learn model")
        images.wait("slim")
        if not images.is_ready("torch"):
            self._narrator.tell("The image with torch is still being built; this one needs none.")
        self._make_namespace()
        file = EXAMPLES / "sklearn.yaml"
        manifest = (ROOT / file).read_text(encoding="utf-8")
        trained = self._trained[2]
        self._narrator.command(f"kubectl apply -f {file}")
        if trained.digest in manifest:
            self._cluster.kubectl("apply", f"--filename={file}")
        else:
            # Another release of scikit-learn or numpy writes other bytes.
            self._narrator.tell(f"… with the digest of the file made here, {trained.digest}")
            self._cluster.kubectl(
                "apply", "--filename=-", stdin=with_digest(manifest, trained.digest)
            )
        self._wait_ready(SKLEARN_MODEL)
        with self._address() as address:
            target = Target(address, SKLEARN_HOST, SKLEARN_MODEL)
            self._ask_once(target, "the scikit-learn model", 0.9)

    def _serve_first(self, images: Images, address: str) -> float:
        say = self._narrator
        say.section("Version 1")
        images.wait("torch")
        file = EXAMPLES / "v1.yaml"
        say.manifest((ROOT / file).read_text(encoding="utf-8"))
        say.command(f"kubectl apply -f {file}")
        self._cluster.kubectl("apply", f"--filename={file}")
        self._wait_ready(MODEL)
        target = Target(address, HOST, MODEL)
        return self._ask_once(target, "version 1", checks.FIRST_ACCURACY)

    def _wait_ready(self, name: str) -> None:
        self._narrator.command(f"kubectl wait --for=condition=Ready mdep/{name} -n {NAMESPACE}")
        with self._narrator.step(f"{name} is Ready"):
            self._cluster.wait_ready(name)

    def _ask_once(self, target: Target, name: str, at_least: float) -> float:
        """Ask for every held-out digit through the proxy, and tell how it went."""
        summary = summarize(self._clients.ask_once(target))
        self._summaries.append(summary)
        check = checks.check_accuracy(name, summary, "1", at_least=at_least)
        self._checks.append(check)
        self._narrator.tell(
            f"{summary.requests} held-out digits through {self._proxy.name}:"
            f" {summary.accuracy('1'):.1%} right"
            f" · p50 {summary.p50_ms:.1f} ms · p99 {summary.p99_ms:.1f} ms"
            f" · {summary.failed} failed"
        )
        return summary.accuracy("1")

    # --- the new version ------------------------------------------------------------------

    def _roll_out(self, address: str) -> float:
        self._narrator.section("Version 2, under load")
        canary = Canary(self._cluster, self._narrator, Rollout("2"), self._proxy.name)
        samples = canary.run(self._clients, Target(address, HOST, MODEL), self._options.rate)
        total = summarize(samples)
        self._summaries.append(total)
        self._checks.append(checks.check_shadow(canary.rollout))
        self._checks += checks.check_steps(canary.rollout.summaries(samples), "2")
        return total.accuracy("2")

    # --- a bad version --------------------------------------------------------------------

    def _roll_back(self, address: str) -> None:
        say = self._narrator
        say.section("Version 3, which is broken")
        say.tell(
            "Its handler has a table that is one entry short, so that about every sixth digit is an "
            "error. It loads, and answers the probes."
        )
        canary = Canary(self._cluster, say, Rollout("3", before="2"), self._proxy.name)
        samples = canary.run(self._clients, Target(address, HOST, MODEL), self._options.rate)
        reason, grounds = canary.rollout.rejection
        say.tell(f"Rolled back: {reason}")
        say.tell(grounds)
        self._checks += checks.check_rollback(canary.rollout, summarize(samples))

    # --- the end --------------------------------------------------------------------------

    def _conclude(self) -> None:
        say = self._narrator
        say.section("What has happened")
        say.command(f"kubectl get mdep -n {NAMESPACE}")
        say.output(self._cluster.kubectl("get", "mdep", f"--namespace={NAMESPACE}"))
        say.console.print()
        say.checks(self._checks)

    def _address(self) -> AbstractContextManager[str]:
        if self._options.proxy_address:
            return nullcontext(self._options.proxy_address)
        return self._proxy.address(self._cluster)


def with_digest(manifest: str, digest: str) -> str:
    """Return a manifest that asks for another digest, everything else as it was."""
    return re.sub(r"(\bdigest: )sha256:[0-9a-f]{64}", rf"\g<1>{digest}", manifest)
