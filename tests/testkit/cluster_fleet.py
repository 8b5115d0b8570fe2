"""Many rollouts at once, each with an operator of its own that is killed at another moment."""

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from testkit.cluster_api import CHILD_KINDS, Manifest, is_ready, revision_of, state_of
from testkit.cluster_canaries import BadVersion, edit_to, serve_good, sleeping
from testkit.cluster_gate import NEVER, Kill, Loop, PrivateOperator, Write
from testkit.cluster_lab import OPERATOR, OPERATOR_NAMESPACE, OPERATOR_SELECTOR, Lab, Served
from testkit.cluster_traffic import Load

NAME: Final = "fraud"
SLOW: Final = {"name": "slow", "builtin": "Slow", "thresholdMilliseconds": 500}
BAD: Final = BadVersion(
    "SlowWorse", ("slow: candidate",), model="v3", handler=sleeping(0.7),
    spec={"rollout": {"bakeSeconds": 120, "analysis": {"metrics": [SLOW]}}},
)  # fmt: skip
"""Rolled back on evidence, and yet every request to it is answered well."""
QUIET_S: Final = 3.0
END_S: Final = 240.0


@dataclass
class Ship:
    """One ModelDeployment with its own operator, and what became of it.

    Attributes:
        served: The ModelDeployment.
        kill: At which write of its rollouts the operator is killed.
        stable: The revision that serves before the edit.
        restart_writes: What a fresh operator wrote with nothing to do.
        writes: Every write of its rollouts, by all operators.
        was_killed: The first operator met its end.
        load: Requests during the rollouts.
        waited: What `kubectl wait` said, and the object as it was then.
        ended: The object when the bad version was gone.
        statuses: Every status that followed the wiping of the first.
    """

    served: Served
    kill: Kill = NEVER
    stable: str = ""
    restart_writes: list[Write] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    was_killed: bool = False
    load: Load | None = None
    waited: tuple[int, str, Manifest] = (1, "", {})
    ended: Manifest = field(default_factory=dict)
    statuses: list[Manifest] = field(default_factory=list)

    def end(self) -> Manifest:
        """Return what is there at the end, without what differs from one namespace to another."""
        served = self.served
        children = {kind: served.all(kind) for kind in CHILD_KINDS}
        pods = served.pods()
        return {
            "children": {
                f"{kind}/{child['metadata']['name']}": _core(child)
                for kind, found in children.items()
                for child in found
            },
            "pods": sorted(pod["metadata"]["labels"]["modelyard.dev/revision"] for pod in pods),
            "templates": sorted(
                one["metadata"]["labels"]["pod-template-hash"] for one in served.all("ReplicaSet")
            ),
            "restarts": sum(
                one["restartCount"] for pod in pods for one in pod["status"]["containerStatuses"]
            ),
        }


@dataclass(frozen=True)
class Fleet:
    """All of them, after their rollouts.

    Attributes:
        reference: Nobody disturbed it.
        killed: By the moment.
        wiped: Its status was wiped in the middle.
        idle: Nobody touched it.
        drifted: Its children were changed while no operator ran.
        watched_s: How long the idle one was watched, in seconds.
    """

    reference: Ship
    killed: dict[Kill, Ship]
    wiped: Ship
    idle: Ship
    drifted: Ship
    watched_s: float


@contextmanager
def chart_operator_off(lab: Lab) -> Iterator[None]:
    """Scale the chart's operator to zero meanwhile."""
    where = (OPERATOR_NAMESPACE, OPERATOR)
    lab.api.patch("Deployment", *where, {"spec": {"replicas": 0}})
    try:
        for pod in lab.api.all("Pod", OPERATOR_NAMESPACE, OPERATOR_SELECTOR):
            lab.api.until_gone("Pod", OPERATOR_NAMESPACE, pod["metadata"]["name"])
        yield
    finally:
        lab.api.patch("Deployment", *where, {"spec": {"replicas": 1}})
        lab.api.until("Deployment", *where, lambda one: one["status"].get("availableReplicas"))


@contextmanager
def run_fleet(lab: Lab, folder: Path, kills: Iterable[Kill], watch_s: float) -> Iterator[Fleet]:
    """Create, then switch the chart's operator off, then roll out everywhere at once.

    Args:
        lab: The cluster.
        folder: For files of the operators.
        kills: Moments at which an operator is killed.
        watch_s: How long at least the idle one is watched.
    """
    wanted = dict.fromkeys(("reference", "wiped", "idle", "drifted"), NEVER)
    wanted |= {str(kill): kill for kill in kills}
    with ExitStack() as stack, ThreadPoolExecutor(len(wanted)) as threads:
        ships = {
            hint: Ship(serve_good(stack.enter_context(lab.bench(hint)), NAME, BAD), kill)
            for hint, kill in wanted.items()
        }
        for ship, seen in threads.map(_until_ready, ships.values()):
            ship.stable = revision_of(seen, "stable")
        stack.enter_context(chart_operator_off(lab))
        yard = Yard(lab, folder, stack.enter_context(_loop()), stack)
        _disturb(ships["drifted"].served)
        operators = dict(zip(ships, threads.map(yard.launch, ships.values()), strict=True))
        started = time.monotonic()
        time.sleep(QUIET_S)
        for hint, ship in ships.items():
            ship.restart_writes = operators[hint].writes
        resting = {"idle", "drifted"}
        sailing = [hint for hint in ships if hint not in resting]
        list(threads.map(lambda hint: yard.sail(ships[hint], operators[hint]), sailing))
        time.sleep(max(0.0, watch_s - (time.monotonic() - started)))
        ships["idle"].writes = operators["idle"].writes
        ships["drifted"].restart_writes = operators["drifted"].writes  # it may have taken its time
        watched_s = time.monotonic() - started
        killed = {ship.kill: ship for ship in ships.values() if ship.kill is not NEVER}
        rest = {hint: ships[hint] for hint in ("reference", "wiped", "idle", "drifted")}
        yield Fleet(killed=killed, watched_s=watched_s, **rest)


@dataclass(frozen=True)
class Yard:
    """Where operators are made.

    Attributes:
        lab: The cluster.
        folder: For their files.
        loop: Where their gates run.
        stack: Stops them at the end.
    """

    lab: Lab
    folder: Path
    loop: Loop
    stack: ExitStack

    def launch(self, ship: Ship, *, again: bool = False) -> PrivateOperator:
        """Start an operator for a ship and wait until it works."""
        operator = PrivateOperator(
            loop=self.loop,
            kubeconfig=self.lab.provider.kubeconfig,
            env=self.lab.operator_env,
            namespace=ship.served.namespace,
            folder=self.folder,
            kill=NEVER if again else ship.kill,
        )
        operator.start()
        self.stack.callback(operator.stop)
        operator.until_started()
        return operator

    def sail(self, ship: Ship, operator: PrivateOperator) -> None:
        """Roll out a good version and a bad one, kill or wipe on the way, and note how it ends."""
        served = ship.served
        with (
            Load(served.route, threads=2, pause_s=0.3) as ship.load,
            self._relieved(ship, operator) as operators,
        ):
            served.edit_to(2)
            where = (f"mdep/{served.name}", f"--namespace={served.namespace}")
            wait = self.lab.start_kubectl(
                "wait", "--for=condition=Ready", *where, f"--timeout={END_S:.0f}s"
            )
            if "wiped" in served.namespace:
                _wipe(ship)
            said = wait.communicate()[0]
            ship.waited = (wait.returncode, said, served.get())
            served.until_ready()
            edit_to(served, BAD)
            ship.ended = served.until(lambda seen: state_of(seen) == "RolledBack", END_S)
            time.sleep(QUIET_S)  # it may be killed at what it tidies up, too
            # Those of this time alone: nobody looks for a kill at a later one.
            ship.writes = [write for one in operators for write in one.writes]

    @contextmanager
    def _relieved(self, ship: Ship, operator: PrivateOperator) -> Iterator[list[PrivateOperator]]:
        """Start another operator when the first one is killed; yields both."""
        operators, over = [operator], threading.Event()

        def relieve() -> None:
            while not (over.is_set() or operator.killed):
                operator.until_killed(0.2)
            if operator.killed:
                operators.append(self.launch(ship, again=True))

        thread = threading.Thread(target=relieve)
        thread.start()
        try:
            yield operators
        finally:
            over.set()
            thread.join()
            ship.was_killed = operator.killed


def _until_ready(ship: Ship) -> tuple[Ship, Manifest]:
    seen = ship.served.until_ready(END_S)
    ship.served.until_answered()
    return ship, seen


@contextmanager
def _loop() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()


def _disturb(served: Served) -> None:
    """Do what an operator that runs would undo at once."""
    api, namespace = served.api, served.namespace
    revision = revision_of(served.get(), "stable")
    surge = {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 3}}}}
    api.patch("Deployment", namespace, revision, surge)
    api.delete("Service", namespace, revision)
    api.delete("PodDisruptionBudget", namespace, revision)
    api.patch("ConfigMap", namespace, f"{revision}-directives", {"data": {"directives.json": "{}"}})
    rename = {"metadata": {"annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "1"}}}
    api.patch("Ingress", namespace, served.name, rename)


def _wipe(ship: Ship) -> None:
    """Wipe the status while half of the requests go to the candidate."""
    served = ship.served
    served.until(lambda seen: seen["status"]["rollout"]["state"] == "Analyzing", END_S)
    where = ("ModelDeployment", served.namespace, served.name)
    served.api.patch(*where, {"status": None}, subresource="status")
    for seen in served.api.watch(*where, END_S):
        if seen and seen.get("status"):
            ship.statuses.append(seen["status"])
        if seen and is_ready(seen):
            return


def _core(child: Manifest) -> Manifest:
    """What the operator decides about a child, namespaces and hosts left out."""
    skipped = {"clusterIP", "clusterIPs", "rules"}
    spec: dict[str, Any] = child.get("spec", {})
    return {
        "labels": child["metadata"].get("labels"),
        "spec": {key: value for key, value in spec.items() if key not in skipped},
        "backends": [
            path["backend"] for rule in spec.get("rules", ()) for path in rule["http"]["paths"]
        ],
        "data": child.get("data"),
        "revision": child.get("revision"),
    }
