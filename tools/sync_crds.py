"""Copy the CRDs into the chart: ``python tools/sync_crds.py``; with ``--check``, only compare.

Helm packages what lies below the chart, and a link is not a file everywhere; so the chart holds a
copy, which a test keeps equal to its source.
"""

import shutil
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "crds"
TARGET: Final = ROOT / "charts" / "modelyard" / "files"


def stale() -> list[str]:
    """Return the names of the files that the chart lacks, has in excess or has in another version."""
    names = {path.name for folder in (SOURCE, TARGET) for path in folder.glob("*.yaml")}
    return sorted(name for name in names if _content(SOURCE / name) != _content(TARGET / name))


def sync() -> None:
    """Make the chart's copies equal to the source."""
    for name in stale():
        if (SOURCE / name).is_file():
            shutil.copyfile(SOURCE / name, TARGET / name)
        else:
            (TARGET / name).unlink()


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def main() -> None:
    """Synchronise, or with ``--check`` exit 1 with the names of the files that differ."""
    if "--check" in sys.argv[1:]:
        if names := stale():
            sys.exit(f"run python tools/sync_crds.py: {', '.join(names)} differ from crds/")
        return
    sync()


if __name__ == "__main__":
    main()
