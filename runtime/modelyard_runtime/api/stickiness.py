"""The cookie by which a proxy leads a client back to the revision that has answered it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelyard_runtime.directives import Directives

_FAILED: Final = 400


def cookie_to_set(
    directives: Directives, headers: Iterable[tuple[bytes, bytes]], status: int
) -> bytes | None:
    """Return a value of ``Set-Cookie``; None where the client is to have none, or has one.

    An answer that failed holds nobody to the revision that failed. The cookie lives as long as the
    client's session: its name says for which rollout it counts.

    Args:
        directives: In force.
        headers: Of the request, their names in lower case.
        status: Of the answer.
    """
    wanted = directives.stickiness
    if wanted is None or status >= _FAILED:
        return None
    begins = f"{wanted.cookie}=".encode()
    for name, value in headers:
        if name == b"cookie" and any(one.strip().startswith(begins) for one in value.split(b";")):
            return None
    path = directives.path_prefix or "/"
    return begins + f"{wanted.value}; Path={path}; HttpOnly; SameSite=Lax".encode()
