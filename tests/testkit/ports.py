"""Ports for the servers that tests start."""

import random
import socket
from contextlib import ExitStack, suppress
from typing import Final

PORTS: Final = range(20_000, 30_000)
"""Below those that the system gives to connections, so that none takes a port before its server does."""


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on.

    References:
        ``ip_local_port_range`` in https://docs.kernel.org/networking/ip-sysctl.html
    """
    found: list[int] = []
    with ExitStack() as held:
        for port in random.sample(PORTS, len(PORTS)):
            if len(found) == count:
                break
            with suppress(OSError):
                held.enter_context(socket.create_server(("0.0.0.0", port)))  # noqa: S104 -- as servers do
                found.append(port)
    return found
