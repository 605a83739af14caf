"""Which requests are answered, and how an answer looks: rules of ``http`` that need no connection.

Only GET; only a Host that is this server's own, so that no web page can have a browser ask for it under a name that
was pointed here (DNS rebinding); nothing of what was asked is repeated in an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_MAX_HOST_CHARS: Final = 260


class Answer(NamedTuple):
    """What is said to one request."""

    status: int
    body: bytes
    content_type: str = JSON
    allow: str = ""

    def headers(self) -> list[tuple[str, str]]:
        """Return the fields that go with it; every connection serves one request."""
        fields = [
            ("content-type", self.content_type),
            ("content-length", str(len(self.body))),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("connection", "close"),
        ]
        return [*fields, ("allow", self.allow)] if self.allow else fields


NOT_FOUND: Final = Answer(404, b"There are /healthz, /readyz, /metrics and /status.\n", TEXT)
NOT_ALLOWED: Final = Answer(405, b"Only GET.\n", TEXT, allow="GET")
HAS_BODY: Final = Answer(413, b"A GET takes no content.\n", TEXT)
WRONG_HOST: Final = Answer(421, b"Not this host: see http.allowed_hosts.\n", TEXT)
BAD_REQUEST: Final = Answer(400, b"That is no request.\n", TEXT)
TOO_LARGE: Final = Answer(431, b"The request is too large.\n", TEXT)
TOO_SLOW: Final = Answer(408, b"The request took too long.\n", TEXT)
FAILED: Final = Answer(500, b"That went wrong: the log says how.\n", TEXT)
LATE: Final = Answer(503, b"There is no answer in time.\n", TEXT)


def refusal(
    method: bytes, fields: Sequence[tuple[bytes, bytes]], own: Collection[str], allowed: Collection[str]
) -> Answer | None:
    """Return why a request is not answered, or None.

    Arguments:
        method: as it was sent.
        fields: the header, names in lower case.
        own: the addresses under which this server can be reached.
        allowed: names by which others may ask, in lower case.
    """
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) != 1:
        return BAD_REQUEST
    name = host_name(hosts[0])
    if name is None or not (name in LOCAL_NAMES or name in own or name in allowed):
        return WRONG_HOST
    if method != b"GET":
        return NOT_ALLOWED
    if any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in fields):
        return HAS_BODY
    return None


def host_name(host: bytes) -> str | None:
    """Return the name in a Host field without its port, in lower case; None for what cannot be one."""
    try:
        text = host.decode("ascii").lower()
    except UnicodeDecodeError:
        return None
    if not text or len(text) > _MAX_HOST_CHARS:
        return None
    if text.startswith("["):
        name, closing, port = text[1:].partition("]")
        if not closing or (port and not port.startswith(":")):
            return None
        port = port[1:]
    else:
        name, _, port = text.partition(":")
    is_port = not port or (port.isdigit() and len(port) <= 5)
    return name.removesuffix(".") or None if is_port else None


def path_of(target: bytes) -> str:
    """Return the path of a request's target, without a query."""
    return target.partition(b"?")[0].decode("ascii", "replace")
