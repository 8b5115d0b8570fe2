"""The deliberate differences of ``docs/reference/differences-from-triton.md``, each as code.

A difference looks at a request and its two answers. Where it shows, it takes itself out of them, so
that what is left of the two must be equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from testkit.triton_replies import RestCase, StreamCase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from testkit.triton_replies import Case, Reply

    Difference = Callable[[Case, Reply, Reply], bool]


def _status(
    theirs_says: Iterable[str], ours_says: str, whats: Iterable[str] | None = None
) -> Difference:
    """Build a difference of statuses; ``whats`` limits it to some requests."""
    said, limited = frozenset(theirs_says), None if whats is None else frozenset(whats)

    def erase(case: Case, theirs: Reply, ours: Reply) -> bool:
        shows = theirs.status in said and ours.status == ours_says
        if not shows or (limited is not None and case.what not in limited):
            return False
        if theirs.status in {"200", "OK"} or ours.status in {"200", "OK"}:
            # One of them answered with a result: nothing else is to be compared.
            theirs.document = ours.document = {}
            theirs.headers = ours.headers = {}
            theirs.outputs = ours.outputs = []
        theirs.status = ours.status
        return True

    return erase


def _any_of(*differences: Difference) -> Difference:
    def erase(case: Case, theirs: Reply, ours: Reply) -> bool:
        shown = [each(case, theirs, ours) for each in differences]
        return any(shown)

    return erase


def _output_order(case: Case, theirs: Reply, ours: Reply) -> bool:
    del case
    shows = [o.name for o in theirs.outputs] != [o.name for o in ours.outputs]
    for reply in (theirs, ours):
        reply.outputs.sort(key=lambda output: output.name)
    return shows


def _shortest_digits(case: Case, theirs: Reply, ours: Reply) -> bool:
    """``data`` is compared as FP32 anyway."""
    del case
    shows = False
    for left, right in zip(theirs.outputs, ours.outputs, strict=False):
        if left.datatype == "FP32" and left.written is not None and right.written is not None:
            shows |= left.written != right.written
            left.written = right.written = None
    return shows


def _exact_numbers(case: Case, theirs: Reply, ours: Reply) -> bool:
    """One unit in the last place, of FP64 that was sent as JSON."""
    if not isinstance(case, RestCase):
        return False
    if case.what != "good":
        return False
    sent = {t["datatype"]: t.get("data") for t in case.document["inputs"]}
    if sent.get("FP64") is None:
        return False
    shows = False
    for left, right in zip(theirs.outputs, ours.outputs, strict=False):
        if left.datatype != "FP64" or left.data == right.data:
            continue
        got, want = np.frombuffer(left.data), np.frombuffer(right.data)
        assert (want == np.ravel(sent["FP64"])).all(), "ours is what was sent"
        # Neighbouring floats of one sign are neighbouring integers.
        if (np.abs(got.view(np.int64) - want.view(np.int64)) <= 1).all():
            left.data, left.written = right.data, right.written
            shows = True
    return shows


def _binary_for_all(case: Case, theirs: Reply, ours: Reply) -> bool:
    if not isinstance(case, RestCase) or theirs.status != "200" or ours.status != "200":
        return False
    flag = case.document.get("parameters", {}).get("binary_data_output")
    silent = {
        output["name"]
        for output in case.document.get("outputs", ())
        if "binary_data" not in output.get("parameters", {})
    }
    if not flag or not silent:
        return False
    for left, right in zip(theirs.outputs, ours.outputs, strict=True):
        if left.name in silent:
            assert left.written is not None
            assert right.written is None
            left.written = None
    theirs.headers["content-type"] = ours.headers["content-type"]
    return True


def _error_shape(case: Case, theirs: Reply, ours: Reply) -> bool:
    """Both failed: words are not compared, shapes are."""
    del case
    if theirs.status in {"200", "OK"} or ours.status in {"200", "OK"}:
        return False
    if "error" in ours.document and "error" in theirs.document:
        assert isinstance(ours.document["error"], str)
        assert isinstance(theirs.document["error"], str)
        if ours.status.isdigit():
            assert set(ours.document) == {"error", "code", "request_id"}
            assert ours.headers.pop("content-type") == "application/json"
            theirs.headers.pop("content-type", None)
            ours.headers.pop("allow", None)
        theirs.document = ours.document = {}
        return True
    return False


def _stream_error(case: Case, theirs: Reply, ours: Reply) -> bool:
    """Words are not compared; ours always names the model, and ends what was to be ended."""
    if not isinstance(case, StreamCase):
        return False
    shows = False
    if case.what == "refused by a model that answers in parts":
        (_,), (_, end) = theirs.document["parts"], ours.document["parts"]
        assert end["parameters"] == {"triton_final_response": "bool_param: true\n"}
        shows = bool(ours.document["parts"].pop())
    for left, right in zip(theirs.document["parts"], ours.document["parts"], strict=False):
        if left.get("error") and right.get("error"):
            shows |= left != right
            assert right["model_name"] == case.message.model_name
            for part in (left, right):
                part.update(error="", model_name="", parameters={})
    return shows


def _half_precision(case: Case, theirs: Reply, ours: Reply) -> bool:
    """FP16 and BF16 as JSON, and their classes."""
    return case.what.startswith(("FP16", "BF16", "classes of ")) and _status(["400"], "200")(
        case, theirs, ours
    )


def _several_encodings(case: Case, theirs: Reply, ours: Reply) -> bool:
    if not isinstance(case, RestCase) or "," not in case.headers.get("accept-encoding", ""):
        return False
    return theirs.headers.pop("content-encoding", None) != ours.headers.get("content-encoding")


def _health_bodies(case: Case, theirs: Reply, ours: Reply) -> bool:
    """Something to read instead of nothing."""
    if case.what not in {"health", "repository"} or theirs.document or not ours.headers:
        return False
    shows = ours.headers != theirs.headers or bool(ours.document)
    assert all(value is True for key, value in ours.document.items() if key != "name")
    theirs.headers, ours.document = ours.headers, {}
    return shows


def _without(*keys: str, what: str) -> Difference:
    """Build a difference in what some keys say, wherever they stand."""

    def erase(case: Case, theirs: Reply, ours: Reply) -> bool:
        if case.what != what:
            return False
        before = (theirs.document, ours.document)
        theirs.document, ours.document = (_pruned(each, frozenset(keys)) for each in before)
        return (theirs.document, ours.document) != before

    return erase


def _pruned(value: Any, keys: frozenset[str]) -> Any:
    if isinstance(value, list):
        return [_pruned(each, keys) for each in value]
    if isinstance(value, dict):
        return {k: _pruned(v, keys) for k, v in value.items() if k not in keys}
    return value


def _config_fields(case: Case, theirs: Reply, ours: Reply) -> bool:
    """Compare what ours says, but for the library's name."""
    if case.what != "config":
        return False
    before = theirs.document
    ours.document = _pruned(ours.document, frozenset({"platform", "backend"}))
    theirs.document = _shared(theirs.document, ours.document)
    return theirs.document != before


def _shared(value: Any, pattern: Any) -> Any:
    if isinstance(value, list) and isinstance(pattern, list) and len(value) == len(pattern):
        return [_shared(each, like) for each, like in zip(value, pattern, strict=True)]
    if isinstance(value, dict) and isinstance(pattern, dict):
        return {k: _shared(v, pattern[k]) for k, v in value.items() if k in pattern}
    return value


def _statistics(case: Case, theirs: Reply, ours: Reply) -> bool:
    """Leave the counts, but for those of failures; take the times out."""
    if case.what != "statistics":
        return False
    before = theirs.document
    for reply in (theirs, ours):
        reply.document = _pruned(
            reply.document, frozenset({"ns", "last_inference", "fail", "response_stats"})
        )
        for model in reply.document["model_stats"]:
            for batch in model.get("batch_stats", ()):
                batch.pop("compute_input", None)
                batch.pop("compute_output", None)
    return theirs.document != before


_MISSING: Final = frozenset(
    {
        "statistics of an unknown model",
        "readiness of an unknown model",
        "load of an unknown model",
        "unload of an unknown model",
        "version as text",
    }
)
_SHARED: Final = ("shared memory in", "shared memory out")

DIFFERENCES: Final[dict[str, Difference]] = {
    "output-order": _output_order,
    "binary-for-all": _binary_for_all,
    "exact-numbers": _exact_numbers,
    "shortest-digits": _shortest_digits,
    "half-precision": _half_precision,
    "several-encodings": _several_encodings,
    "large-requests": _any_of(
        _status(["400"], "200", ["too many rows"]),
        _status(["INVALID_ARGUMENT"], "OK", ["too many rows"]),
    ),
    "parts-at-once": _any_of(
        _status(["501"], "200", ["parts at once"]),
        _status(["UNIMPLEMENTED"], "OK", ["parts at once"]),
    ),
    "value-range": _status(["200"], "400", ["value too large"]),
    "nested-shape": _status(["200"], "400", ["nested otherwise", "ragged"]),
    "output-twice": _any_of(
        _status(["200"], "400", ["output twice"]),
        _status(["OK"], "INVALID_ARGUMENT", ["output twice"]),
    ),
    "tensor-parameters": _status(["200"], "400", ["tensor parameters as text"]),
    "raw-without-input": _status(["OK"], "INVALID_ARGUMENT", ["raw of three tensors"]),
    "negative-time-out": _status(["OK"], "INVALID_ARGUMENT", ["time-out below zero"]),
    "caller-error": _status(["500"], "400"),
    "unknown-encoding": _status(["501"], "415", ["unknown encoding"]),
    "shared-memory": _any_of(
        _status(["400", "404"], "415", _SHARED),
        _status(["200"], "404", ["shared memory status"]),
        _status(["INVALID_ARGUMENT"], "UNIMPLEMENTED", _SHARED),
    ),
    "what-is-not-there": _any_of(
        _status(["200", "400", "500"], "404", _MISSING),
        _status(["INVALID_ARGUMENT"], "NOT_FOUND", _MISSING),
    ),
    "tracing-and-logging": _status(["200"], "404", ["trace setting", "logging"]),
    "health-bodies": _health_bodies,
    "server-name": _without("name", "version", "extensions", what="server"),
    "platform": _without("platform", what="metadata"),
    "config-fields": _config_fields,
    "index-reason": _without("reason", what="index"),
    "statistics": _statistics,
    "error-shape": _error_shape,
    "stream-error": _stream_error,
}
"""Name → what shows it and takes it out, in the order in which they are asked."""


def explain(case: Case, theirs: Reply, ours: Reply) -> tuple[set[str], str]:
    """Take every known difference out of two answers to one request.

    Returns:
        The differences that showed, and what is left in words; empty when nothing is.
    """
    shown = {name for name, erase in DIFFERENCES.items() if erase(case, theirs, ours)}
    if theirs == ours:
        return shown, ""
    asked = case.document if isinstance(case, RestCase) else str(case.message)
    return shown, f"{case.what}: {str(asked)[:600]}\n  theirs {theirs}\n  ours   {ours}"
