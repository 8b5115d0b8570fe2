"""Bytes → messages, with what is wrong with them beside: an RPC answers it in its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import DecodeError

from modelyard_runtime.errors import MalformedRequestError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from modelyard_runtime.errors import RequestError


class Received(NamedTuple):
    """A message that has arrived.

    Attributes:
        message: The message; an empty one where there is a problem.
        problem: What is wrong with it.
    """

    message: Any
    problem: RequestError | None = None

    def opened(self) -> Any:
        """Return the message.

        Raises:
            MalformedRequestError: It is none of its kind.
            TooLargeError: It is larger than the limit.
        """
        if self.problem is not None:
            raise self.problem
        return self.message


def reader(kind: Any, limit: Callable[[], int]) -> Callable[[bytes], Received]:
    """Build what reads messages of a kind.

    Args:
        kind: Their class.
        limit: Gives the most bytes that one may have.

    Returns:
        A deserializer that does not raise, as the library would tell the caller of an error of ours.
    """

    def read(data: bytes) -> Received:
        if len(data) > limit():
            return Received(kind(), TooLargeError(f"the message is larger than {limit()} bytes"))
        try:
            return Received(kind.FromString(data))
        except DecodeError:
            return Received(
                kind(), MalformedRequestError(f"the message is no {kind.DESCRIPTOR.name}")
            )

    return read


def opening(
    behaviour: Callable[[Any, Any], Awaitable[Any]],
) -> Callable[[Received, Any], Awaitable[Any]]:
    """Hand an RPC its message.

    Args:
        behaviour: The RPC.

    Returns:
        The RPC, which raises what ``Received.opened`` raises.
    """

    async def run(received: Received, context: Any) -> Any:
        return await behaviour(received.opened(), context)

    return run
