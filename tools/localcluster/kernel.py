"""Kernel settings of the whole machine that a kubelet changes, put back at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from localcluster.paths import Cache

CHANGED_BY_KUBELET: Final = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
ROOT: Final = Path("/proc/sys")


def remember(cache: Cache) -> None:
    """Record the machine's values before the first cluster's kubelet changes them."""
    file = _file(cache)
    if not file.exists():
        settings = [ROOT / name for name in CHANGED_BY_KUBELET]
        values = {str(path): path.read_text() for path in settings if path.exists()}
        file.write_text(json.dumps(values))


def restore(cache: Cache) -> None:
    """Put the recorded values back when the last cluster is gone."""
    file = _file(cache)
    if file.exists() and not any(path.is_dir() for path in file.parent.iterdir()):
        for path, value in json.loads(file.read_text()).items():
            Path(path).write_text(value)
        file.unlink()


def _file(cache: Cache) -> Path:
    return cache.root / "clusters" / "kernel.json"
