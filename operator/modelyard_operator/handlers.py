"""The kopf decorators: each body notes what happened and puts a key on the work-queue.

kopf is the informer and the lifecycle; it writes nothing and decides nothing.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, Final

import kopf
import structlog

from modelyard_operator import metrics
from modelyard_operator.cluster import Cluster
from modelyard_operator.errors import ClusterForbiddenError, ClusterGoneError
from modelyard_operator.health import Health
from modelyard_operator.kinds import (
    CONFIG_MAP,
    OPTIONAL_KINDS,
    OWNED_KINDS,
    WATCHED_KINDS,
    Kind,
)
from modelyard_operator.reconcile import Reconciler
from modelyard_operator.resources import labels
from modelyard_operator.scrape import Scraper
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.store import Key, Store
from modelyard_operator.watch import Watch
from modelyard_operator.worker import run_worker, sweep_forever
from modelyard_operator.workqueue import WorkQueue

DEBOUNCE_S: Final = 0.05
"""Events of one change arrive in bursts; one pass answers them all."""

START_RETRY_S: Final = 5.0
"""Between attempts to start, for instance while the API server does not answer."""

log: Final = structlog.get_logger(__name__)


@dataclass
class Operator:
    """The running operator: what the handlers share.

    Attributes:
        settings: The operator's own settings.
        store: What the watches have told.
        queue: Keys that wait for a worker.
        health: What the probes answer.
    """

    settings: OperatorSettings
    store: Store = field(default_factory=Store)
    queue: WorkQueue[Key] = field(default_factory=WorkQueue)
    health: Health = field(default_factory=Health)
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Connect, take in what exists, then let the workers begin."""
        settings = self.settings
        async with contextlib.AsyncExitStack() as stack:  # a failed attempt leaves nothing behind
            await stack.enter_async_context(
                self.health.serve(settings.http_port, settings.metrics_port)
            )
            cluster = await stack.enter_async_context(await Cluster.connect(settings.namespaces))
            scraper = await stack.enter_async_context(Scraper.connect())
            for kind in WATCHED_KINDS:
                await self._take_in(cluster, kind)
            self.store.absent = await self._absent(cluster)
            self._stack = stack.pop_all()
        for key in self.store.model_deployments():
            self.queue.add(key)
        metrics.QUEUE_DEPTH.set_function(lambda: len(self.queue))
        metrics.MODEL_DEPLOYMENTS.set_function(lambda: len(self.store.model_deployments()))
        reconciler = Reconciler(self.store, cluster, settings, Watch(scraper, settings))
        work = [run_worker(self.queue, reconciler, self.health) for _ in range(settings.workers)]
        sweep = sweep_forever(self.store, cluster, self.queue)
        self._tasks = [asyncio.create_task(task) for task in (*work, sweep)]
        self.health.ready = True
        log.info("started", model_deployments=len(self.store.model_deployments()),
                 absent=sorted(self.store.absent))  # fmt: skip

    async def _take_in(self, cluster: Cluster, kind: Kind) -> None:
        async for raw in cluster.list_all(kind):
            self.store.put(raw)

    async def _absent(self, cluster: Cluster) -> frozenset[str]:
        """Take in the kinds that a cluster need not have; return those that it has not.

        One that the operator's role does not list is as good as absent.
        """
        absent: set[str] = set()
        for kind in OPTIONAL_KINDS:
            try:
                await self._take_in(cluster, kind)
            except (ClusterGoneError, ClusterForbiddenError):
                absent.add(kind.name)
        return frozenset(absent)

    async def stop(self) -> None:
        """Stop the workers, then close the connection."""
        self.health.ready = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def note(self, event: kopf.RawEvent) -> None:
        """Take in one watch event and ask for work on the ModelDeployments that it concerns."""
        raw: dict[str, Any] = dict(event["object"])
        deleted = event["type"] == "DELETED"
        concerned = self.store.note(raw, deleted=deleted)
        if raw["kind"] == CONFIG_MAP.name:
            concerned |= self.store.note_config_map(raw, deleted=deleted)
        for key in concerned:
            self.queue.add(key, DEBOUNCE_S)


def build_registry(operator: Operator) -> kopf.OperatorRegistry:
    """Register everything that kopf is to call."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry, backoff=START_RETRY_S)
    async def on_startup(settings: kopf.OperatorSettings, **_: object) -> None:
        configure(settings)
        await operator.start()
        for kind in OPTIONAL_KINDS:  # kopf looks for what it is to watch only after this
            if kind.name not in operator.store.absent:
                _watch(registry, kind, operator)

    @kopf.on.cleanup(registry=registry)
    async def on_cleanup(**_: object) -> None:
        await operator.stop()

    @kopf.on.login(registry=registry)
    async def on_login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    for kind in WATCHED_KINDS:
        _watch(registry, kind, operator)
    return registry


def configure(settings: kopf.OperatorSettings) -> None:
    """Make kopf quiet and stubborn: no Events, no annotations, no finalizers, long patience."""
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = [1, 2, 4, 8, 15, 30, 30, 30]
    settings.queueing.error_delays = [1, 2, 5, 10, 30, 60]
    settings.process.ultimate_exiting_timeout = 10
    for kind in (*OWNED_KINDS, *OPTIONAL_KINDS):
        if kind is CONFIG_MAP:
            continue  # users' own hold handlers and golden requests, and carry no label of ours
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = labels.SELECTOR


def _watch(registry: kopf.OperatorRegistry, kind: Kind, operator: Operator) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)
    async def on_event(event: kopf.RawEvent, **_: object) -> None:
        operator.note(event)
