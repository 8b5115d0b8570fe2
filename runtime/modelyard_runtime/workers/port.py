"""Ports that several processes listen on."""

from __future__ import annotations

import socket

from modelyard_runtime.errors import port_taken


def reserved_port(variable: str, host: str, port: int) -> socket.socket:
    """Take a port for the workers, without listening on it.

    Args:
        variable: Environment variable that names the port.
        host: Address.
        port: 0 takes a free one.

    Returns:
        A socket that holds the port; only processes of the same user may share it.

    Raises:
        StartupError: ``InvalidSettings``: another program has it.
    """
    try:
        _bound(
            host, port, shared=False
        ).close()  # a port that is shared looks free to whoever shares
        return _bound(host, port, shared=True)
    except OSError as error:
        raise port_taken(variable, host, port, str(error.strerror)) from error


def listening_socket(host: str, port: int) -> socket.socket:
    """Listen on a port that ``reserved_port`` has taken.

    Args:
        host: Address.
        port: The port.

    Returns:
        A socket that listens; the kernel shares connections out among all of them.

    References:
        ``socket(7)``, ``SO_REUSEPORT``.
    """
    listener = _bound(host, port, shared=True)
    listener.listen(2048)
    return listener


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
