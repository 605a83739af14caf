r"""Private keys as blocks of lines: PEM of every kind, OpenPGP, SSH2, PuTTY; whole, or cut at either end.

A block may stand in JSON, once or several times encoded, so that its line breaks are `\n`, `\\n` and so on. The
frame is masked with the key. A frame without a key in it (someone writes about keys) stays.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from cortex_autolearn.redact.spans import Span

RULE: Final = "private-key"
RULES: Final = (RULE,)

_FARTHEST: Final = 1 << 16  # characters between the two lines of a frame, at most
_WHOLE_LINE: Final = 40  # what is no last line has at least as many characters

_GAP: Final = r"(?: |%20|\+)"  # as text, URLs and forms have it; of the last two only whole frames are told
_BREAK: Final = r"[ \t]{0,40}+(?:[\r\n]|\\{1,64}[nr])(?:\s|\\{1,64}+[nrt]){0,40}+"
_HEADER: Final = r"[A-Z][A-Za-z-]{2,30}: [^\n\r\\]{0,200}+"
# A last line, or one that was cut, has nothing behind it.
_SHORT: Final = r"=?[A-Za-z0-9+/]{1,64}+={0,3}+(?=[\s]{0,2}(?:[\n\r\\\"'`\u2026-]|\.\.|\Z))"
# A block on one line, or put together from quoted lines in source code.
_LOOSE: Final = r"[\s\"'+,\\nr]{1,80}[A-Za-z0-9+/]{40,}+={0,3}"


class _Shapes(NamedTuple):
    marker: re.Pattern[str]
    putty: re.Pattern[str]
    body: re.Pattern[str]
    material: re.Pattern[str]
    breaks: re.Pattern[str]
    line: re.Pattern[str]


@cache
def _compiled() -> _Shapes:
    return _Shapes(
        re.compile(
            rf"-{{4,5}} ?(BEGIN|END){_GAP}(?:[A-Z0-9]{{1,12}}{_GAP}){{0,4}}PRIVATE{_GAP}KEY(?:{_GAP}BLOCK)?"
            r"(?: ?-{1,5})?+"
        ),
        re.compile(r"PuTTY-User-Key-File-[0-9]{1,2}: [^\n\r\\]{0,200}+"),
        re.compile(rf"(?:{_BREAK}(?:{_HEADER}|[A-Za-z0-9+/]{{20,}}+={{0,3}}+|{_SHORT})|{_LOOSE})*+"),
        re.compile(r"[A-Za-z0-9+/]{16}"),
        re.compile(r"(?:\s|\\{1,64}[nrt])+"),
        re.compile(r"=?[A-Za-z0-9+/]+={0,3}"),
    )


def spans(text: str) -> Iterator[Span]:
    """Every private key in the text, with its frame as far as it is there."""
    shapes = _compiled()
    if "PRIVATE" in text:
        yield from _framed(text, shapes)
    if "PuTTY-User-Key" in text:
        for header in shapes.putty.finditer(text):
            body = shapes.body.match(text, header.end())
            yield Span(header.start(), header.end() if body is None else body.end(), RULE)


def _framed(text: str, shapes: _Shapes) -> Iterator[Span]:
    opened: re.Match[str] | None = None
    behind = 0  # what is behind belongs to an earlier mark
    for mark in shapes.marker.finditer(text):
        if opened is not None:
            closes = mark[1] == "END" and mark.start() - opened.end() <= _FARTHEST
            span = _key(text, shapes, opened, mark if closes else None)
            if span is not None:
                yield span
                behind = span.end
            if closes:
                opened, behind = None, mark.end()
                continue
        if mark[1] == "BEGIN":
            opened = mark
        else:
            opened = None
            start = _before(text, shapes, max(behind, mark.start() - _FARTHEST), mark.start())
            if start < mark.start():
                yield Span(start, mark.end(), RULE)
        behind = mark.end()
    if opened is not None and (span := _key(text, shapes, opened, None)) is not None:
        yield span


def _key(text: str, shapes: _Shapes, opened: re.Match[str], closed: re.Match[str] | None) -> Span | None:
    """The block that begins there, or None when the frame holds nothing."""
    body = shapes.body.match(text, opened.end())
    end = opened.end() if body is None else body.end()
    if closed is None:
        return Span(opened.start(), end, RULE) if end > opened.end() else None
    if end == opened.end() and shapes.material.search(text, opened.end(), closed.start()) is None:
        return None
    return Span(opened.start(), closed.end(), RULE)


def _before(text: str, shapes: _Shapes, first: int, end: int) -> int:
    """Where the lines begin that belong to an END whose BEGIN was cut off; `end` when there are none."""
    cuts = [first, *(place for found in shapes.breaks.finditer(text, first, end) for place in found.span()), end]
    start = end
    lines = list(zip(cuts[::2], cuts[1::2], strict=True))
    for at, until in reversed(lines):
        if at == until:
            continue
        whole = until - at >= _WHOLE_LINE or at == 0 or start == end
        if not whole or shapes.line.fullmatch(text, at, until) is None:
            break
        start = at
    return start
