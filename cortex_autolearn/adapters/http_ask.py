"""Asks the daemon's own HTTP server one question: what ``health`` needs, without an HTTP library."""

from __future__ import annotations

import socket
import time
from typing import Final, NamedTuple

from cortex_autolearn.ports import BoundaryError

_MAX_BYTES: Final = 1 << 20


class Said(NamedTuple):
    """An answer: its status and its content."""

    status: int
    body: bytes


def ask(host: str, port: int, path: str, timeout_s: float) -> Said:
    """GET a path.

    Raises:
        BoundaryError: nobody answers there within the time.
    """
    try:
        return _asked(host, port, path, time.monotonic() + timeout_s)
    except OSError as error:
        raise BoundaryError(
            "ask",
            f"http://{host}:{port}{path}",
            str(error) or type(error).__name__,
            hint="Is the daemon running, and its event loop free?",
            retryable=True,
        ) from error


def _asked(host: str, port: int, path: str, ends_at: float) -> Said:
    name = f"[{host}]" if ":" in host else host
    request = f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n"
    got = b""
    with socket.create_connection((host, port), timeout=_left(ends_at)) as connection:
        connection.sendall(request.encode("ascii"))
        while len(got) < _MAX_BYTES:
            connection.settimeout(_left(ends_at))
            data = connection.recv(65_536)
            if not data:
                break
            got += data
    head, _, body = got.partition(b"\r\n\r\n")
    words = head.partition(b"\r\n")[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise OSError("what answers there does not speak HTTP")
    return Said(int(words[1]), body)


def _left(ends_at: float) -> float:
    left = ends_at - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left
