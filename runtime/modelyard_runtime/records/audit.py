"""The audit trail: one record of every prediction, and of some the tensors."""

from __future__ import annotations

import base64
import fnmatch
import random
import re
from typing import TYPE_CHECKING, Any, Final

from modelyard_runtime.directives import AuditDirective
from modelyard_runtime.records.lines import Lines
from modelyard_runtime.tensors import datatype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from modelyard_runtime.directives import Directives
    from modelyard_runtime.engine.protocol import Array
    from modelyard_runtime.records.ending import Ending

_PAYLOAD_BYTES: Final = 8 * 1024
"""Of all inputs together, and of all outputs: with the lines that may wait it bounds the memory."""
_NOTHING: Final = re.compile(r"(?!)")


class Audit:
    """Writes a record of every prediction, if the directives want them.

    Args:
        on_drop: Told of every record that is lost.
    """

    def __init__(self, on_drop: Callable[[], None]) -> None:
        self._on_drop = on_drop
        self._directive = AuditDirective()
        self._redacted = _NOTHING
        self._lines: Lines | None = None

    @property
    def on(self) -> bool:
        """Whether predictions are recorded."""
        return self._lines is not None

    def apply(self, directives: Directives) -> None:
        """Record what the directives want from now on.

        Args:
            directives: The current ones.
        """
        before, now = self._directive, directives.audit
        if now == before:
            return
        self._directive = now
        self._redacted = _any_of(now.redact)
        if (before.mode, before.sink) == (now.mode, now.sink):
            return
        if self._lines is not None:
            self._lines.close()
        self._lines = None if now.mode == "None" else Lines(now.sink, self._on_drop)

    def note(self, ending: Ending) -> None:
        """Record a prediction.

        Args:
            ending: How it ended.
        """
        if self._lines is None:
            return
        payload = self._payload(ending) if self._wants_payload() else {}
        self._lines.put(lambda: _record(ending, payload))

    def close(self) -> None:
        """Take no more records."""
        if self._lines is not None:
            self._lines.close()

    def flush(self, timeout_s: float) -> None:
        """Wait until all is written, after ``close``.

        Args:
            timeout_s: Longest wait, in seconds.
        """
        if self._lines is not None:
            self._lines.flush(timeout_s)

    def _wants_payload(self) -> bool:
        directive = self._directive
        # Sampling is no secret.
        return directive.mode == "Payload" and random.random() < directive.sampling_ratio  # noqa: S311

    def _payload(self, ending: Ending) -> dict[str, list[Excerpt]]:
        call = ending.call
        if call.served is None or call.question is None:
            return {}
        signature, question = call.served.signature, call.question
        answered = question.outputs if call.outputs is not None else ()
        tensors = {
            "inputs": zip((spec.name for spec in signature.inputs), question.arrays, strict=True),
            "outputs": ((signature.outputs[i].name, call.outputs[i]) for i in answered),
        }
        return {word: list(self._excerpts(found)) for word, found in tensors.items()}

    def _excerpts(self, tensors: Iterable[tuple[str, Array]]) -> Iterator[Excerpt]:
        left = _PAYLOAD_BYTES
        for name, array in tensors:
            redacted = self._redacted.match(name) is not None
            excerpt = Excerpt(name, array, left, redacted=redacted)
            left -= excerpt.nbytes
            yield excerpt


class Excerpt:
    """The beginning of a tensor, copied: the rest of it must not be kept alive.

    Args:
        name: The tensor's name.
        array: The tensor.
        most: Bytes that may be kept.
        redacted: Whether none of its values may be.
    """

    def __init__(self, name: str, array: Array, most: int, *, redacted: bool) -> None:
        self.name = name
        self.datatype = datatype_of(array)
        self.shape = list(array.shape)
        self._redacted = redacted
        strings = array.dtype.kind == "O"
        most_values = 0 if redacted else most // (1 if strings else array.itemsize)
        # Indexing ``flat`` copies what is taken, and no more, whatever the layout.
        values: Any = array.flat[:most_values]
        if strings:
            values = _leading(values.tolist(), most)
        self._values = values
        self.nbytes = sum(map(len, values)) if strings else values.nbytes
        self._whole = len(self._values) == array.size

    def document(self) -> dict[str, Any]:
        """Describe the tensor in the words of the Open Inference Protocol.

        Returns:
            ``data`` is flat; ``redacted`` or ``truncated`` say why there is less of it.
        """
        described = {"name": self.name, "datatype": self.datatype, "shape": self.shape}
        if self._redacted:
            return {**described, "redacted": True}
        values = self._values if isinstance(self._values, list) else self._values.tolist()
        described["data"] = [_text(v) if isinstance(v, bytes) else v for v in values]
        return described if self._whole else {**described, "truncated": True}


def _record(ending: Ending, payload: dict[str, list[Excerpt]]) -> dict[str, Any]:
    served = ending.call.served
    return {
        "event": "prediction",
        **ending.document(),
        "digest": None if served is None else served.digest,
        **{word: [excerpt.document() for excerpt in found] for word, found in payload.items()},
    }


def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, globs))) if globs else _NOTHING


def _leading(values: list[bytes], most: int) -> list[bytes]:
    """Take strings from the front while they fit."""
    taken: list[bytes] = []
    for value in values:
        most -= max(1, len(value))
        if most < 0:
            break
        taken.append(value)
    return taken


def _text(value: bytes) -> str:
    """A string as JSON has it; what is no text is written as base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
