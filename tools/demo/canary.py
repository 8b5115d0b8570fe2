"""The heart of the demo: an edit under constant load, and what clients see of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rich.live import Live

from demo.cluster import StatusWatch
from demo.errors import DemoError
from demo.options import EXAMPLES
from demo.samples import summarize
from demo.view import describe, render

if TYPE_CHECKING:
    from rich.console import RenderableType

    from demo.client import Target
    from demo.cluster import Cluster
    from demo.load import Clients, Load
    from demo.narrator import Narrator
    from demo.rollout import Rollout
    from demo.samples import Sample

AROUND_S: Final = 3.0
"""How long the load runs before the edit and after the promotion."""
LIMIT_S: Final = 900.0
LOG_EVERY_S: Final = 5.0
FRAME_S: Final = 0.4
"""Between two looks at what clients see: adding up is not free on a small machine."""


class Canary:
    """Applies the new version under load and shows what follows.

    Attributes:
        rollout: What status has said about it.
    """

    def __init__(self, cluster: Cluster, narrator: Narrator, rollout: Rollout, proxy: str) -> None:
        self.rollout = rollout
        self._proxy = proxy
        self._cluster = cluster
        self._narrator = narrator

    def run(self, clients: Clients, target: Target, rate: float) -> list[Sample]:
        """Edit the model under load, and follow the rollout to its end.

        Args:
            clients: Starts the load.
            target: Where it goes.
            rate: Requests a second.

        Returns:
            Every request of the load.
        """
        file = EXAMPLES / f"v{self.rollout.version}.yaml"
        self._narrator.tell(
            f"{rate:.0f} requests a second through {self._proxy}, from before the edit until after its "
            "end. Response headers say which version has answered."
        )
        watch = StatusWatch(self._cluster)
        load = clients.load(target, rate)
        try:
            time.sleep(AROUND_S)
            load.check()
            self._narrator.command(f"kubectl apply -f {file}")
            self._cluster.kubectl("apply", f"--filename={file}")
            self._follow(watch, load)
        finally:
            watch.stop()
            load.stop()
        return load.samples

    def _follow(self, watch: StatusWatch, load: Load) -> None:
        """Show the rollout until it is done, and a little longer."""
        started = logged = time.monotonic()
        with Live(console=self._narrator.console, auto_refresh=False) as live:
            finished = 0.0
            while not finished or time.monotonic() - finished < AROUND_S:
                time.sleep(FRAME_S)
                now = time.monotonic()
                state = self.rollout.state
                self._look(watch, load, now - started)
                if self.rollout.done and self.rollout.steps and not finished:
                    finished = now
                if self._narrator.is_live:
                    live.update(self._frame(load, now - started), refresh=True)
                elif now - logged > LOG_EVERY_S or state != self.rollout.state:
                    self._log(load)
                    logged = now
        if not self._narrator.is_live:
            self._narrator.show(self._frame(load, time.monotonic() - started))

    def _look(self, watch: StatusWatch, load: Load, elapsed_s: float) -> None:
        load.check()
        for seen_s, status in watch.take():
            self.rollout.feed(seen_s, status)
        if elapsed_s > LIMIT_S or watch.ended:
            raise DemoError(
                f"the rollout has not ended after {elapsed_s:.0f} s; it is in state "
                f"{self.rollout.state}"
            )

    def _log(self, load: Load) -> None:
        samples = list(load.samples)
        steps, total = self.rollout.summaries(samples), summarize(samples)
        self._narrator.tell(describe(self.rollout, steps, total))

    def _frame(self, load: Load, elapsed_s: float) -> RenderableType:
        samples = list(load.samples)
        steps, total = self.rollout.summaries(samples), summarize(samples)
        return render(self.rollout, steps, total, elapsed_s)
