from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from localcluster.errors import CommandError
from localcluster.processes import ProcessIdentity, pipe, run, start, start_time, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_recycled_pid_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    known = ProcessIdentity.of(sleeper.pid)
    assert known is not None
    earlier = replace(known, started=known.started - 1)

    assert known.is_alive()
    assert not earlier.is_alive()
    assert not earlier.kill(signal.SIGKILL)
    assert sleeper.poll() is None, "the process that has the id now must not be touched"


def test_the_same_pid_in_another_boot_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    current = ProcessIdentity.of(sleeper.pid)
    assert current is not None
    known = replace(current, boot="another")

    assert not known.kill(signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_zombie_counts_as_dead(sleeper: subprocess.Popen[bytes]) -> None:
    known = ProcessIdentity.of(sleeper.pid)
    assert known is not None

    sleeper.kill()

    assert wait_until(lambda: not known.is_alive(), 5)
    assert start_time(sleeper.pid) is None


def test_stop_kills_what_ignores_the_polite_signal(tmp_path: Path) -> None:
    script = "trap '' TERM; touch ready; while :; do sleep 0.05; done"
    argv = ["sh", "-c", f"cd {tmp_path} && {script}"]
    known = start(argv, tmp_path / "log", {"PATH": "/usr/bin:/bin"}, "")
    assert wait_until((tmp_path / "ready").exists, 5)

    known.stop(grace_s=0.2)

    assert not known.is_alive()


def test_a_record_survives_reading_and_a_damaged_one_is_none(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    record = tmp_path / "etcd.json"
    known = ProcessIdentity.of(sleeper.pid, "fingerprint")
    assert known is not None

    known.write(record)
    assert ProcessIdentity.read(record) == known

    record.write_text('{"pid": 1')
    assert ProcessIdentity.read(record) is None


def test_a_process_name_with_parentheses_does_not_shift_the_fields(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        # The name changes with exec, which may come a moment after the fork.
        assert wait_until(lambda: "a) b" in stat_of(process.pid), 5)
        ticks = start_time(process.pid)
        process.kill()

    first = start_time(1)
    assert ticks is not None
    assert first is not None
    assert abs(ticks - first) >= 0
    assert ticks > first


def stat_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
        return file.read()


def test_a_failed_command_tells_its_last_words() -> None:
    with pytest.raises(CommandError, match=r"ended with code 3:\n  out of luck"):
        run(["sh", "-c", "echo out of luck >&2; exit 3"])


def test_a_pipe_hands_on_and_tells_which_side_failed() -> None:
    env = {"PATH": "/usr/bin:/bin"}

    assert pipe(["echo", "through"], ["cat"], env) == "through\n"
    with pytest.raises(CommandError, match=r"no source"):
        pipe(["sh", "-c", "echo no source >&2; exit 1"], ["cat"], env)
    with pytest.raises(CommandError, match=r"no sink"):
        pipe(["yes"], ["sh", "-c", "echo no sink >&2; exit 1"], env)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(CommandError, match="no-such-program is not installed"):
        run(["no-such-program"])
