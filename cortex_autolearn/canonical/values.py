"""What single values mean: statuses, scores, retry counts, errors, outputs.

Each reader takes the candidates that exist in a record, in the table's order, and notes oddities in ``flags``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cortex_autolearn.model import rawjson
from cortex_autolearn.model.rawjson import Fields, Place, first, value_at
from cortex_autolearn.model.records import CANCELLED, COMPLETED, FAILED

OUTPUT_CHARS_CAP: Final = 100
"""Visible characters of an output are counted up to this many."""

MAX_MEASURE: Final = 1e15
"""A duration or a price from this on is no measurement."""

Number = int | float

FINAL_WORDS: Final = {
    **dict.fromkeys(("completed", "complete", "success", "succeeded", "done"), COMPLETED),
    **dict.fromkeys(("failed", "failure", "error", "timeout", "timed_out", "zombie", "stuck", "killed"), FAILED),
    **dict.fromkeys(("cancelled", "canceled", "skipped"), CANCELLED),
}
"""The fleet's words for a final status, and which one each of them means."""
_PLACEHOLDERS: Final = frozenset(
    "null none nil undefined n/a na ok okay done success true false yes no - -- ... tbd todo {} [] '' \"\"".split()
)
_NOT_PLAIN: Final = bytes(range(33)) + bytes(range(127, 256))
_HEAD_BYTES: Final = 160  # of an output: mostly enough to see that it is long
_QUOTE: Final = 0x22  # looked for as a number: `b"x" in data` raises and drops a TypeError first
_BACKSLASH: Final = 0x5C
_DELETE: Final = 0x7F
_OPEN_LIST: Final = 0x5B
_MAX_RETRIES: Final = 1_000_000


def text(candidates: tuple[Place, ...], fields: Fields, flags: list[str]) -> str | None:
    """Read a name or a word; a number counts as its digits, anything else as nothing."""
    _, raw = first(candidates, fields)
    return None if raw is None else rawjson.scalar_text(raw)


def status(candidates: tuple[Place, ...], fields: Fields, flags: list[str]) -> str | None:
    """Read a status: lower case, the fleet's words for a final one unified."""
    _, raw = first(candidates, fields)
    written = None if raw is None else rawjson.scalar_text(raw)
    word = "" if written is None else written.strip().lower()
    if not word:
        flags.append("no_status" if raw is None else "status_unreadable")
        return None
    return FINAL_WORDS.get(word, word)


def final_status(written: str) -> str | None:
    """Return the final status that one of the fleet's words means; None for any other word."""
    return FINAL_WORDS.get(written.strip().lower())


def error(candidates: tuple[Place, ...], fields: Fields, flags: list[str]) -> str | None:
    """Read what went wrong, as text; of a list of errors the first that is not empty, of their count any but none."""
    for place in candidates:
        raw = value_at(place, fields)
        if raw is not None and place.top == "errors":
            if raw[0] == _OPEN_LIST:
                raw = next((one for one in rawjson.entries(raw) if not rawjson.is_empty(one)), None)
            elif _is_zero(raw):
                flags.append("errors_is_zero")
                continue
        if raw == b"false":
            flags.append("error_is_false")  # "no error", said as a boolean
        elif raw is not None:
            return rawjson.text_of(raw)
    return None


def _is_zero(raw: bytes) -> bool:
    value = rawjson.number(raw)
    return (number_in_text(raw) if value is None else value) == 0


def retries(candidates: tuple[Place, ...], fields: Fields, flags: list[str]) -> int | None:
    """Read how often a task was tried again, of a list how many it holds; None where nothing tells."""
    path, raw = first(candidates, fields)
    if raw is None:
        return None
    value = sum(1 for _ in rawjson.entries(raw)) if raw[0] == _OPEN_LIST else rawjson.number(raw)
    if value is None:
        value = number_in_text(raw)
        flags.append("retries_unreadable" if value is None else "retries_as_text")
    count = 0 if value is None else int(min(value, _MAX_RETRIES))
    return max(0, count - 1 if path == "attempts" else count)


def cost_usd(candidates: tuple[Place, ...], fields: Fields, flags: list[str]) -> Number | None:
    """Read what a task cost, in US dollars."""
    _, raw = first(candidates, fields)
    if raw is None:
        return None
    value = rawjson.number(raw)
    if value is None or not 0 <= value < MAX_MEASURE:
        flags.append("cost_unreadable")
        return None
    return value


def seconds(raw: bytes, divisor: int, flags: list[str]) -> Number | None:
    """Read a measured duration; ``divisor`` turns its unit into seconds."""
    value = rawjson.number(raw)
    if value is None and (value := number_in_text(raw)) is not None:
        flags.append("duration_as_text")
    if value is None or not 0 <= value < MAX_MEASURE:
        flags.append("duration_unreadable")
        return None
    return value if divisor == 1 else value / divisor


def minutes(raw: bytes, flags: list[str]) -> Number | None:
    """Read a positive duration in minutes and return its seconds; 0 is a placeholder."""
    value = rawjson.number(raw)
    as_text = value is None
    if value is None:
        value = number_in_text(raw)
    if value is None or not 0 < value < MAX_MEASURE:
        return None
    if as_text:
        flags.append("duration_as_text")
    return value * 60


def number_in_text(raw: bytes) -> Number | None:
    """Read a number that a shell script wrote as text (``jq --arg`` makes those)."""
    written = (rawjson.scalar_text(raw) or "").strip()
    if not written or not written.isascii():
        return None
    try:
        return rawjson.number(written.encode())
    except msgspec.DecodeError:
        return None


def meaningful_chars(raw: bytes) -> int:
    """Count the visible characters of an output up to :data:`OUTPUT_CHARS_CAP`; a placeholder has none.

    Visible are all but Unicode's separators (Z*) and controls (C*), which is what ``str.isprintable`` says of every
    character except the space.
    """
    head = raw[1:_HEAD_BYTES]
    if raw[0] == _QUOTE and head.isascii() and _DELETE not in head:
        # Of ASCII without DEL and escapes, only spaces are not visible. An escape takes two bytes, or six with a `u`.
        hidden = head.count(b" ")
        if _BACKSLASH in head:
            hidden += 2 * head.count(b"\\") + 4 * head.count(b"\\u")
        if len(head) - hidden > OUTPUT_CHARS_CAP:
            return OUTPUT_CHARS_CAP
    head = raw[1 : 3 * OUTPUT_CHARS_CAP]
    # Enough plain ASCII at the beginning settles it; an escape may take six bytes and show nothing.
    if len(head.translate(None, _NOT_PLAIN)) - 6 * head.count(b"\\") > OUTPUT_CHARS_CAP:
        return OUTPUT_CHARS_CAP
    written = rawjson.text_of(raw)
    # White space is all separators and controls; where nothing else is unprintable, what is left is visible.
    solid = "".join(written[: 3 * OUTPUT_CHARS_CAP].split())
    if not solid.isprintable() or (len(solid) < OUTPUT_CHARS_CAP and len(written) > 3 * OUTPUT_CHARS_CAP):
        return _count_visible(written)
    return 0 if solid.lower() in _PLACEHOLDERS else min(len(solid), OUTPUT_CHARS_CAP)


def _count_visible(written: str) -> int:
    seen = 0
    for character in written:
        if character != " " and character.isprintable():
            seen += 1
            if seen == OUTPUT_CHARS_CAP:
                break
    return seen
