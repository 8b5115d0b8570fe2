"""The three images: built one after the other in the background, smallest first."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from demo.errors import DemoError
from demo.options import ROOT
from localcluster.errors import LocalClusterError
from localcluster.image import ImageBuild
from localcluster.names import canonical

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from demo.narrator import Narrator
    from demo.options import Options
    from localcluster.provider import Provider

HINTS: Final = {
    "operator": "The operator's image is being built: about 1 min the first time.",
    "slim": "The runtime's image without torch is being built: about 1 min the first time.",
    "torch": "The runtime's image with torch is being built. It has several GB: about 5 min the "
    "first time, nothing later.",
}


class Images:
    """Builds what the demo runs and puts it where pods find it.

    Use as a context manager: what has not begun at its end is given up.
    """

    def __init__(self, provider: Provider, options: Options, narrator: Narrator) -> None:
        self._provider = provider
        self._options = options
        self._narrator = narrator
        self._pool = ThreadPoolExecutor(1)
        self._futures: dict[str, Future[bool]] = {}
        self.builds = builds_of(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and any(future.running() for future in self._futures.values()):
            self._narrator.tell("The demo ends early, once the image that is being built is whole.")
        self._pool.shutdown(cancel_futures=True)

    @property
    def are_built(self) -> bool:
        """Whether they are built here; else the nodes pull them from the registry."""
        return not self._options.registry

    def start(self) -> None:
        """Begin to build, the image that is needed first coming first."""
        if self.are_built:
            for name, build in self.builds.items():
                self._futures[name] = self._pool.submit(self._provider.build_image, build)

    def is_ready(self, name: str) -> bool:
        """Return whether an image needs no more waiting."""
        return name not in self._futures or self._futures[name].done()

    def wait(self, name: str) -> None:
        """Wait for an image.

        Raises:
            DemoError: It could not be built or loaded.
        """
        if name not in self._futures:
            return
        try:
            if not self.is_ready(name):
                self._narrator.tell(HINTS[name])
            self._futures[name].result()
        except LocalClusterError as error:
            raise DemoError(f"image {self.builds[name].name}: {error}") from error


def builds_of(options: Options) -> dict[str, ImageBuild]:
    """Return the three builds, in the order in which the story needs them."""
    torch_arguments = {"TORCH_INDEX_URL": options.torch_index_url}
    runtime = ROOT / "Dockerfile.runtime"
    operator = f"{options.operator_repository}:{options.tag}"
    return {
        "operator": ImageBuild(canonical(operator), ROOT / "Dockerfile.operator", ROOT),
        "slim": ImageBuild(canonical(options.slim_image), runtime, ROOT, target="slim"),
        "torch": ImageBuild(
            canonical(options.torch_image),
            runtime,
            ROOT,
            build_args={k: v for k, v in torch_arguments.items() if v},
            target="torch",
        ),
    }
