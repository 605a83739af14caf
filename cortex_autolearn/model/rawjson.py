"""Values of a JSON object, looked at as the bytes they are written in.

Records pass through this system byte for byte, so most questions about them are asked of bytes: is this value empty,
where does it stand, which text does it hold. Everything here expects valid JSON in UTF-8, as ``jsonstream`` yields it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

Fields = dict[str, msgspec.Raw]
"""The top level of a JSON object: each key and its value's own bytes."""

_decode: Final = msgspec.json.Decoder().decode
_decode_fields: Final = msgspec.json.Decoder(Fields).decode
_encode: Final = msgspec.json.Encoder().encode
_EMPTY: Final = frozenset((b"null", b'""', b"[]", b"{}"))
_TEXT: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'  # possessive: a step that could be taken back costs memory
_EMPTY_OBJECT: Final = re.compile(rb'(?:[{},\s]|%b\s*+:|null|""|\[\s*+\])*+' % _TEXT, re.DOTALL)
"""Of valid JSON: an object whose values are null, empty text, empty lists and objects of such."""
_KEY: Final = re.compile(rb"[\s,{]*+(%b)\s*+:\s*+" % _TEXT, re.DOTALL)
_ATOM: Final = re.compile(rb"%b|[^\s,}\]]++" % _TEXT, re.DOTALL)
_TO_BRACKET: Final = re.compile(rb'[^"{}\[\]]*+(?:%b[^"{}\[\]]*+)*+' % _TEXT, re.DOTALL)
_TO_ENTRY: Final = re.compile(rb"[\s,]*+")
_TO_ESCAPED: Final = re.compile(rb'[^"]*+(?:"[^"\\]*+"[^"]*+)*+("[^"\\]*+(?:\\.[^"\\]*+)++")')
"""Of valid JSON: what stands before the next text that holds an escape, and that text."""
_MAX_DIGITS: Final = 400
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C  # looked for as a number: `b"x" in data` raises and drops a TypeError first
_OPEN_LIST: Final = 0x5B
_CLOSE_LIST: Final = 0x5D
_OPEN_OBJECT: Final = 0x7B


class Place(NamedTuple):
    """Where a value may stand: its dotted path, the top-level key, and the keys below that."""

    path: str
    top: str
    below: tuple[str, ...]


def places(paths: tuple[str, ...]) -> tuple[Place, ...]:
    """Split dotted paths into places."""
    return tuple(Place(path, path.split(".")[0], tuple(path.split(".")[1:])) for path in paths)


def is_empty(raw: bytes) -> bool:
    """Tell whether a value counts as absent: null, empty text, list or object, or an object of such."""
    if raw in _EMPTY:
        return True
    if raw[0] == _OPEN_LIST:
        return not raw[1:-1].strip()
    # Neither decoded nor descended into: a record nests as deeply as its writer likes.
    return raw[0] == _OPEN_OBJECT and _EMPTY_OBJECT.fullmatch(raw) is not None


def value_at(place: Place, fields: Fields) -> bytes | None:
    """Return the value at a place whose top-level key exists; None where there is none or it is empty."""
    return first((place,), fields)[1]


def first(candidates: tuple[Place, ...], fields: Fields) -> tuple[str | None, bytes | None]:
    """Return path and value of the first candidate that is present and not empty.

    Every candidate's top-level key must exist in ``fields``.
    """
    for path, top, below in candidates:
        raw = bytes(fields[top])
        # Most values are a text or a number at the top level: settled without another call.
        if not below and len(raw) > 2 and (raw[0] == _QUOTE or raw[0] < _OPEN_LIST):
            return path, raw
        found = _descend(raw, below) if below else raw
        if found is not None and not is_empty(found):
            return path, found
    return None, None


def _descend(raw: bytes, keys: tuple[str, ...]) -> bytes | None:
    for key in keys:
        # Looking for the text of the key is far cheaper than decoding, and most records lack it.
        if raw[0] != _OPEN_OBJECT or (raw.find(key.encode()) < 0 and _BACKSLASH not in raw):
            return None
        found = _decode_fields(raw).get(key)
        if found is None:
            return None
        raw = bytes(found)
    return raw


def text_of(raw: bytes) -> str:
    """Return a value as text: a string's own, anything else as compact JSON, without escapes that it does not need.

    Many writers escape every letter that is not ASCII, or ``/``, ``=`` and ``&``: whoever reads such a text, or looks
    for secrets in it, is to find what it says.
    """
    if raw[0] == _QUOTE:
        text: str = _decode(raw)
        return text
    compact = msgspec.json.format(raw, indent=-1)
    if compact.find(b"\\u") >= 0 or compact.find(b"\\/") >= 0:
        compact = _plainly(compact)
    return compact.decode()


def scalar_text(raw: bytes) -> str | None:
    """Return a string's text or a number's digits; None for any other value."""
    if raw[0] == _QUOTE:
        text: str = _decode(raw)
        return text
    return raw.decode() if raw[0] in b"-0123456789" else None


def number(raw: bytes) -> int | float | None:
    """Return a JSON number; None for any other value, and for one of absurd length or that no float can hold."""
    if raw[0] not in b"-0123456789" or len(raw) > _MAX_DIGITS:
        return None
    try:
        value: int | float = _decode(raw)
    except msgspec.DecodeError:  # beyond what a float can hold: 1e400
        return None
    return value if -1e300 < value < 1e300 else None


def text_at(path: str | None, fields: Fields) -> str | None:
    """Return the text that stands at a dotted path; None where there is none or it is empty."""
    if path is None:
        return None
    (place,) = places((path,))
    raw = value_at(place, fields) if place.top in fields else None
    return None if raw is None else text_of(raw)


def repeated_key(raw: bytes) -> str | None:
    """Return the first top-level key that stands twice in ``raw``, or None."""
    seen: set[str] = set()
    for key, _, _ in spans(raw):
        if key in seen:
            return key
        seen.add(key)
    return None


def spans(raw: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield every top-level key of an object with the byte range of its value, in order and repeated ones too.

    Nothing is made of the values: a record may be large, and what Python makes of one takes thirty times as much.
    """
    position = 0
    while (match := _KEY.match(raw, position)) is not None:
        start = match.end()
        position = _end(raw, start)
        yield _decode(match[1]), start, position


def entries(raw: bytes) -> Iterator[bytes]:
    """Yield the values of a list, one after the other: nothing is made of those that nobody asks for."""
    position = 1
    while raw[start := _past(_TO_ENTRY, raw, position)] != _CLOSE_LIST:
        position = _end(raw, start)
        yield raw[start:position]


def _plainly(compact: bytes) -> bytes:
    """Write JSON without the escapes that it does not need; numbers stay as they are."""
    written = bytearray()  # grows in place: a list of the parts would take many times the size of the text
    done = 0
    while (match := _TO_ESCAPED.match(compact, done)) is not None:
        written += compact[done : match.start(1)]
        written += _encode(_decode(match[1]))
        done = match.end()
    written += compact[done:]
    return bytes(written)


def _end(raw: bytes, start: int) -> int:
    """Return where the value ends that begins at ``start``."""
    if raw[start] not in (_OPEN_LIST, _OPEN_OBJECT):
        return _past(_ATOM, raw, start)
    position, depth = start, 0
    while True:
        bracket = _past(_TO_BRACKET, raw, position)
        position = bracket + 1
        depth += 1 if raw[bracket] in (_OPEN_LIST, _OPEN_OBJECT) else -1
        if not depth:
            return position


def _past(pattern: re.Pattern[bytes], raw: bytes, position: int) -> int:
    match = pattern.match(raw, position)
    assert match is not None  # valid JSON has it there
    return match.end()
