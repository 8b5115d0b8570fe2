"""What the server and an HTTP worker say to each other about one request.

The server leads: it runs the request, and asks the worker, which has the connection, to read from it,
to decode the tensors, to encode them and to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from modelyard_runtime.engine.process_protocol import Failure
    from modelyard_runtime.engine.protocol import Arrays
    from modelyard_runtime.inference import Question
    from modelyard_runtime.settings import RuntimeSettings
    from modelyard_runtime.signature import Signature


class Hello(NamedTuple):
    """Server → worker, first: how it is to serve."""

    settings: RuntimeSettings
    port: int


class Listening(NamedTuple):
    """Worker → server: connections are taken."""


class Leave(NamedTuple):
    """Server → worker: take no more connections, finish, and end."""


class Open(NamedTuple):
    """Worker → server: the head of a request has arrived.

    Attributes:
        call: Its number in this worker.
        scope: Its ASGI scope, as far as it pickles.
    """

    call: int
    scope: dict[str, Any]


class Gone(NamedTuple):
    """Worker → server: nobody waits for an answer any more."""

    call: int


class Receive(NamedTuple):
    """Server → worker: pass the next ASGI message of the request on."""

    call: int


class Decode(NamedTuple):
    """Server → worker: read the body and decode it.

    Attributes:
        call: The request.
        limit: Most bytes that it may have.
        name: Of the model.
        version: Of the model.
        signature: What the model takes and gives; None: as was last said of this name and version.
    """

    call: int
    limit: int
    name: str
    version: str
    signature: Signature | None


class Send(NamedTuple):
    """Server → worker: write an ASGI message.

    Attributes:
        call: The request.
        message: The message.
        outputs: To be encoded into the body; the message is then the answer's start.
    """

    call: int
    message: dict[str, Any]
    outputs: Arrays | None = None


class End(NamedTuple):
    """Server → worker: the request is done."""

    call: int


class Received(NamedTuple):
    """Worker → server: an ASGI message of the request."""

    call: int
    message: dict[str, Any]


class Decoded(NamedTuple):
    """Worker → server: the body's content."""

    call: int
    question: Question
    seconds: float


class Encoded(NamedTuple):
    """Worker → server: the outputs are on their way to the caller.

    Attributes:
        call: The request.
        seconds: What encoding took.
        not_finite: Binary outputs with NaN or infinity in them.
    """

    call: int
    seconds: float
    not_finite: int


class Sent(NamedTuple):
    """Worker → server: a part of a stream has been taken by the connection."""

    call: int


class Failed(NamedTuple):
    """Worker → server: it could not do what it was asked.

    Attributes:
        call: The request.
        failure: Why; None: the caller has hung up.
    """

    call: int
    failure: Failure | None
