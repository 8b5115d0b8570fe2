"""The tasks that run for as long as the operator does: the workers and the sweep."""

import asyncio
import time
from typing import Final

import structlog

from modelyard_operator import metrics
from modelyard_operator.cluster import Cluster
from modelyard_operator.errors import ClusterConflictError, ModelyardOperatorError
from modelyard_operator.health import Health
from modelyard_operator.kinds import OPTIONAL_KINDS, WATCHED_KINDS
from modelyard_operator.reconcile import Reconciler
from modelyard_operator.store import Key, Store
from modelyard_operator.workqueue import WorkQueue

SWEEP_INTERVAL_S: Final = 600.0
CONFLICT_DELAY_S: Final = 0.2
"""After a lost race: the watch has brought the newer version by then."""

log: Final = structlog.get_logger(__name__)


async def run_worker(queue: WorkQueue[Key], reconciler: Reconciler, health: Health) -> None:
    """Work on keys until cancelled; one key's failure is never another's."""
    while True:
        key = await queue.get()
        started = time.monotonic()
        health.begin(key, started)
        try:
            delay_s = await reconciler.reconcile(key)
        except ClusterConflictError as error:
            metrics.RECONCILES.labels("conflict").inc()
            log.debug("conflict", model_deployment=key.name, error=str(error))
            queue.add(key, CONFLICT_DELAY_S)
        except ModelyardOperatorError as error:
            metrics.RECONCILES.labels("error").inc()
            retry_s = queue.retry(key)
            log.warning("will retry", model_deployment=key.name, namespace=key.namespace,
                        error=str(error), retry_s=round(retry_s, 1))  # fmt: skip
        except Exception:
            metrics.RECONCILES.labels("bug").inc()
            queue.retry(key)
            log.exception("reconcile failed", model_deployment=key.name, namespace=key.namespace)
        else:
            metrics.RECONCILES.labels("success").inc()
            queue.forget(key)
            if delay_s is not None:
                queue.add(key, delay_s)
        finally:
            metrics.RECONCILE_SECONDS.observe(time.monotonic() - started)
            health.end(key)
            queue.done(key)


async def sweep_forever(store: Store, cluster: Cluster, queue: WorkQueue[Key]) -> None:
    """Hold the store against complete lists, since a cut watch may have missed deletions."""
    while True:
        await asyncio.sleep(SWEEP_INTERVAL_S)
        optional = [kind for kind in OPTIONAL_KINDS if kind.name not in store.absent]
        for kind in (*WATCHED_KINDS, *optional):
            known = store.uids(kind.name)
            try:
                listed = [raw async for raw in cluster.list_all(kind)]
            except ModelyardOperatorError as error:
                log.warning("sweep failed", kind=kind.name, error=str(error))
                continue
            for key in store.replace(kind.name, listed, known):
                metrics.SWEPT.inc()
                queue.add(key)
        for key in store.references.expire():
            queue.add(key)
