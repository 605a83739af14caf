"""Where a secret stands in a text, and how stretches that several rules found become one.

What is a secret is the business of `tokens`, `blocks`, `addresses` and `assigned`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

PLACEHOLDER: Final = "[REDACTED:"
PLACEHOLDERS: Final = re.compile(r"\[REDACTED:([a-z0-9-]{1,32})\]")


class Span(NamedTuple):
    """A stretch to be masked: text[start:end]."""

    start: int
    end: int
    rule: str
    quote: str = ""  # to be put around the placeholder: in JSON it is no number


_ENOUGH: Final = b"a" * 20


def table(members: str) -> bytes:
    """What `stretches` needs to know of the characters, all of them ASCII, that a stretch is made of."""
    return bytes(0x61 if chr(code) in members else 0x20 for code in range(256))


def stretches(text: str, members: bytes) -> Iterator[tuple[int, int]]:
    """Where at least 20 characters of a `table` stand together, as far as they go.

    What a pattern like [a-z]{20,} finds too, four times as fast: all members become one byte, all else another, and 20
    of the first are looked for.
    """
    flat = text.encode("ascii", "replace").translate(members)  # one byte for each character, lone surrogates too
    at = flat.find(_ENOUGH)
    while at >= 0:
        end = flat.find(b" ", at)
        if end < 0:
            end = len(flat)
        yield at, end
        at = flat.find(_ENOUGH, end)


def joined(spans: Iterable[Span], order: Sequence[str]) -> list[Span]:
    """The spans from left to right, those that overlap as one, under the name that stands first in `order`."""
    made: list[Span] = []
    for span in sorted(spans):
        if made and span.start < made[-1].end:
            last = made[-1]
            rule = min(last.rule, span.rule, key=order.index)
            made[-1] = Span(last.start, max(last.end, span.end), rule)
        else:
            made.append(span)
    return made
