"""How the demo talks: sections, short sentences, the commands it runs, and progress."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.text import Text

from localcluster.report import Report, duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from demo.checks import Check


class Narrator(Report):
    """Tells the story on standard output, where progress of the cluster's tool goes as well."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(highlight=False, soft_wrap=True)
        self._live = self.console.is_terminal
        self._started = time.monotonic()
        self._section = 0

    @property
    def is_live(self) -> bool:
        """Whether a person watches at a terminal."""
        return self._live

    @property
    def elapsed(self) -> str:
        """Time since the start, as people write it."""
        return duration(time.monotonic() - self._started)

    def title(self, text: str, subtitle: str) -> None:
        """Open the story."""
        self.console.print()
        self.console.print(Text(f"  {text}", style="bold"))
        self.console.print(Text(f"  {subtitle}", style="dim"))

    def section(self, title: str) -> None:
        """Open the next section."""
        self._section += 1
        self.console.print()
        heading = Text.assemble((f"{self._section} · {title}", "bold cyan"))
        self.console.print(heading.append(f"   {self.elapsed}", style="dim"))

    def tell(self, text: str) -> None:
        """Say a sentence or two."""
        self.console.print(Text(f"  {text}"))

    def command(self, line: str) -> None:
        """Show a command that a reader can copy."""
        self.console.print(Text.assemble(("  $ ", "dim"), (line, "green")))

    def manifest(self, text: str) -> None:
        """Show a manifest without its comments."""
        kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        if self._live:
            code = Syntax(kept, "yaml", theme="ansi_dark", background_color="default")
            self.show(code, indent=4)
        else:
            self.output(kept)

    def output(self, text: str) -> None:
        """Show what a command has printed."""
        for line in text.rstrip().splitlines():
            self.console.print(Text(f"    {line}"), overflow="ignore", no_wrap=True)

    def show(self, what: RenderableType, indent: int = 2) -> None:
        """Show a table or other renderable."""
        self.console.print(Padding(what, (0, 0, 0, indent)))

    def checks(self, checks: Iterable[Check]) -> None:
        """Show what was promised, and whether it holds."""
        for check in checks:
            mark = ("✓ ", "green") if check.held else ("✗ ", "bold red")
            self.console.print(Text.assemble("  ", mark, check.text))
