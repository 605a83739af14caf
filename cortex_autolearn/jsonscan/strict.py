"""Exactly one JSON value in UTF-8, or why it is none: strict decoding, with limits on nesting and on keys.

Nothing is repaired here. Where a text that is no JSON ends is `scanner`'s business.
"""

import re
from typing import Final

import msgspec

from cortex_autolearn.jsonscan.grammar import OPEN, OPEN_LIST

Fields = dict[str, msgspec.Raw]

MAX_DEPTH: Final = 800  # msgspec gives up near 1000 on Python 3.11 and elsewhere later or never; we always here
MAX_KEYS: Final = 100_000  # of one object: what Python makes of a key takes some 300 bytes

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NEXT_MARK = re.compile(rb'(?:[^"{}:]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+([{}:])', re.DOTALL)
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"{}[]")))

decode = msgspec.json.Decoder(Fields).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
# UnicodeDecodeError is a ValueError; msgspec's own errors and a nesting past the interpreter's limit are not.
DECODE_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)


def too_deep(text: bytes) -> bool:
    """Whether brackets outside strings nest deeper than MAX_DEPTH."""
    size = len(text)
    # Deleting a byte that is rare is far faster than counting it; nothing shorter can nest so deep and be closed.
    if size <= 2 * MAX_DEPTH or len(text.replace(b"{", b"").replace(b"[", b"")) >= size - MAX_DEPTH:
        return False
    depth = 0
    for byte in _STRINGS.sub(b"", text).translate(None, _NOT_BRACKETS):
        if byte in (OPEN, OPEN_LIST):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        else:
            depth -= 1
    return False


def too_wide(text: bytes) -> bool:
    """Whether an object in it, the outermost one included, has more than MAX_KEYS keys."""
    if text.count(b":") <= MAX_KEYS:
        return False
    keys = [0]
    for found in _NEXT_MARK.finditer(text):
        mark = found[1]
        if mark == b":":
            keys[-1] += 1
            if keys[-1] > MAX_KEYS:
                return True
        elif mark == b"{":
            keys.append(0)
        elif len(keys) > 1:
            keys.pop()
    return False


def parse(text: bytes) -> Fields | str:
    """The top level of exactly one JSON object, or why it is none."""
    if too_deep(text):
        return "nested too deeply"
    if too_wide(text):
        return "too many keys"
    try:
        fields = decode(text)
    except msgspec.ValidationError:
        return "not an object"
    except msgspec.DecodeError as error:
        return "malformed object: " + _detail(text, str(error))
    except UnicodeDecodeError:
        return "invalid UTF-8"
    except RecursionError:
        return "nested too deeply"
    # msgspec checks the grammar of what it skips, but not that it is UTF-8.
    return fields if _is_utf8(text) else "invalid UTF-8"


def is_json(text: bytes) -> bool:
    """Whether the text is one JSON value of any kind."""
    if too_deep(text):
        return False
    try:
        _decode_any(text)
    except DECODE_ERRORS:
        return False
    return _is_utf8(text)


def _is_utf8(text: bytes) -> bool:
    try:
        return text.isascii() or text.decode() is not None
    except UnicodeDecodeError:
        return False


def _detail(text: bytes, message: str) -> str:
    """msgspec's message without its position, so that reasons group."""
    if re.search(rb"\\u[dD][89a-fA-F]", text) and ("truncated" in message or "surrogate" in message):
        return "lone surrogate"
    return message.removeprefix("JSON is malformed: ").partition(" (byte")[0].lower()
