"""A line of the quarantine: what could not be used, with its place in the file it stood in."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import msgspec


def quarantine_line(path: str, offset: int, length: int, reason: str, text: bytes | None) -> bytes:
    """Return the line that keeps a stretch of a file, with its line feed.

    Arguments:
        path: of the file, below ROOT.
        offset: where the stretch begins, in bytes.
        length: its bytes.
        reason: why it could not be used.
        text: the stretch itself; None where it is too long to be kept.
    """
    line: dict[str, object] = {"reason": reason, "file": path, "offset": offset, "length": length}
    if text is not None:
        try:
            line["text"] = text.decode()
        except UnicodeDecodeError:
            line["text_base64"] = b64encode(text).decode()
    return msgspec.json.encode(line) + b"\n"


def content_digest(text: bytes | None) -> bytes:
    """Return what tells the content of a stretch from another's at the same place."""
    return sha256(text or b"").digest()[:8]
