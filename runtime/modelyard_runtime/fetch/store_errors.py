"""What an error of a store means to the person who named the model."""

import re
from typing import Final

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from modelyard_runtime.errors import Reason, StartupError

_STATUS: Final = re.compile(r"status code: (\d{3})")
_QUERY: Final = re.compile(r"\?\S*")
_DNS_ERROR: Final = '"dns error"'
_TLS_ERROR: Final = re.compile(r"\b(InvalidCertificate|InvalidMessage|AlertReceived)\(\s*(\w+)")
"""How the store's HTTP client puts it, in the debug part of its message alone."""
_ABSENT: Final = frozenset({404, 410})
_DENIED: Final = frozenset({401, 403})
_SERVER_ERROR: Final = 500
_RETRYABLE_STATUS: Final = frozenset({408, 425, 429})


def classify(error: Exception, uri: str) -> StartupError:
    """Find the reason for a store's error.

    Args:
        error: What obstore or the file system raised.
        uri: For the message.

    Returns:
        ``ArtifactNotFound``, ``AccessDenied``, ``SourceNotResolved``, ``SourceNotTrusted`` or, for
        everything else, ``SourceUnreachable``. The message never holds a query string or a header.
    """
    said, _, debug = str(error).partition("\n\nDebug source")
    text = _QUERY.sub("?…", said)[:400]
    found = _STATUS.search(text)
    status = int(found.group(1)) if found else 0
    no_identity = "169.254.169.254" in text or "missing credentials" in text.lower()
    if isinstance(error, FileNotFoundError) or status in _ABSENT:
        return StartupError(
            Reason.ARTIFACT_NOT_FOUND, f"{uri} does not exist", hint="Check the bucket and path."
        )
    denied = isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError))
    if denied or status in _DENIED or no_identity:
        return StartupError(
            Reason.ACCESS_DENIED,
            f"access to {uri} is denied: {text}",
            hint="Check the keys of credentialsSecretRef and the bucket's policy.",
        )
    if _DNS_ERROR in debug:
        return StartupError(
            Reason.SOURCE_NOT_RESOLVED,
            f"{uri} cannot be read: its host has no address",
            hint="Check the host in the URI or endpointURL, and that the pods may ask the DNS.",
            retryable=True,
        )
    if tls := _TLS_ERROR.search(debug):
        return StartupError(
            Reason.SOURCE_NOT_TRUSTED,
            f"{uri} cannot be read: TLS failed ({tls.group(1)}: {tls.group(2)})",
            hint="Name the authority's certificate in caBundleConfigMapRef, or correct the address.",
        )
    permanent = 0 < status < _SERVER_ERROR and status not in _RETRYABLE_STATUS
    return StartupError(
        Reason.SOURCE_UNREACHABLE,
        f"{uri} cannot be read: {text}",
        hint="Check the address and the network policy.",
        retryable=not permanent,
    )
