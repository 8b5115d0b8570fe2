"""Programs that the tool runs, and processes that outlive it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localcluster.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

STARTED_FIELD: Final = 19
"""Index of the start time among the fields of ``/proc/PID/stat`` that follow the name."""
OUTPUT_LINES: Final = 25


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that no other can be mistaken for, even after its id is used again.

    Attributes:
        pid: Process id.
        started: Start time in clock ticks since boot.
        boot: The kernel's random id of this boot.
        fingerprint: What the process was started with; a change asks for a restart.
    """

    pid: int
    started: int
    boot: str
    fingerprint: str = ""

    @classmethod
    def of(cls, pid: int, fingerprint: str = "") -> ProcessIdentity | None:
        """Return the identity of a running process, or None when there is none."""
        started = start_time(pid)
        return None if started is None else cls(pid, started, boot_id(), fingerprint)

    @classmethod
    def read(cls, path: Path) -> ProcessIdentity | None:
        """Return the recorded identity, or None when the file is missing or damaged."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Record the identity; a reader never sees half a file."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)))
        partial.replace(path)

    def is_alive(self) -> bool:
        """Return whether this very process still runs."""
        return boot_id() == self.boot and start_time(self.pid) == self.started

    def kill(self, number: signal.Signals) -> bool:
        """Send a signal; False when the process is gone, whoever has its id now."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # The descriptor is held first: from here on the id cannot change hands.
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def stop(self, grace_s: float) -> None:
        """Terminate, wait up to ``grace_s`` seconds, then kill and wait."""
        if grace_s > 0 and self.kill(signal.SIGTERM) and wait_until(self._is_gone, grace_s):
            return
        if self.kill(signal.SIGKILL):
            wait_until(self._is_gone, 10)

    def _is_gone(self) -> bool:
        return not self.is_alive()


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks; None when it is gone or a zombie."""
    try:
        # The name may hold spaces and parentheses: the fields start after the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[STARTED_FIELD])


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def wait_until(condition: Callable[[], bool], timeout_s: float, interval_s: float = 0.05) -> bool:
    """Ask again until the condition holds; False after ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True


def start(
    argv: Sequence[str], log: Path, env: Mapping[str, str], fingerprint: str
) -> ProcessIdentity:
    """Start a process that outlives this one, its output appended to ``log``.

    Raises:
        CommandError: The program could not be started.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env),
            cwd="/",
            start_new_session=True,
        )
    identity = ProcessIdentity.of(process.pid, fingerprint)
    if identity is None:
        raise CommandError(f"{argv[0]} ended at once; its output is in {log}")
    # It is nobody's child to wait for: init takes it over when this program ends.
    process.returncode = 0
    return identity


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> str:
    """Run a program to its end and return what it printed.

    Args:
        argv: Program and arguments.
        env: Whole environment; None for this process's own.
        cwd: Folder to run in.
        stdin: Text for its standard input.

    Returns:
        Its standard output.

    Raises:
        CommandError: It is missing, or ended with another code than 0.
    """
    try:
        done = subprocess.run(
            list(argv),
            env=None if env is None else dict(env),
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise CommandError(f"{argv[0]} is not installed here") from error
    _check(argv, done.returncode, done.stderr.strip() or done.stdout)
    return done.stdout


def pipe(source: Sequence[str], sink: Sequence[str], env: Mapping[str, str]) -> str:
    """Run two programs, the output of one being the input of the other.

    Args:
        source: Program and arguments of the one that writes.
        sink: Program and arguments of the one that reads.
        env: Environment of the writer.

    Returns:
        What the reader printed.

    Raises:
        CommandError: One of them has failed.
    """
    with (
        tempfile.TemporaryFile("w+") as complaint,
        subprocess.Popen(
            list(source), env=dict(env), stdout=subprocess.PIPE, stderr=complaint
        ) as writer,
    ):
        done = subprocess.run(
            list(sink), stdin=writer.stdout, capture_output=True, text=True, check=False
        )
        if writer.stdout is not None:
            writer.stdout.close()  # a writer whose reader has failed ends now
        code = writer.wait()
        complaint.seek(0)
        _check(sink, done.returncode, done.stderr)
        _check(source, code, complaint.read())
    return done.stdout


def _check(argv: Sequence[str], code: int, output: str) -> None:
    if code != 0:
        told = "\n  ".join(["", *output.strip().splitlines()[-OUTPUT_LINES:]])
        raise CommandError(f"{' '.join(argv)[:300]} ended with code {code}:{told}")


def succeeds(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> bool:
    """Return whether a program runs and ends with code 0."""
    try:
        run(argv, env=env)
    except CommandError:
        return False
    return True
