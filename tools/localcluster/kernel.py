"""Kernel settings of the whole machine that the kubelet changes, put back at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from localcluster.paths import ClusterPaths

CHANGED_BY_KUBELET: Final = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
ROOT: Final = Path("/proc/sys")


def remember(paths: ClusterPaths) -> None:
    """Record the machine's values, unless this cluster's kubelet may have changed them already."""
    file = paths.root / "kernel.json"
    if not file.exists():
        values = {key: (ROOT / key).read_text() for key in CHANGED_BY_KUBELET if (ROOT / key).exists()}
        file.write_text(json.dumps(values))


def restore(paths: ClusterPaths) -> None:
    """Put the recorded values back."""
    file = paths.root / "kernel.json"
    if file.exists():
        for key, value in json.loads(file.read_text()).items():
            (ROOT / key).write_text(value)
