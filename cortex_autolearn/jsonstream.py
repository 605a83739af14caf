"""Bytes of a file the fleet wrote → the objects in it, and what is broken, each once and with its place.

A compact line is decoded as it stands; that is nearly all there is, and it is the hot path of the product. Whatever
else (objects over many lines, glued or torn ones, text) goes to `jsonscan`, which says where it ends. The reader's
state between runs is one offset, `consumed`: what begins there does not depend on the bytes before it.

What a record means is `canonical`'s business, and where the bytes come from the job's.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from cortex_autolearn.jsonscan.grammar import CLOSE, NEWLINE, OPEN, OPEN_LIST
from cortex_autolearn.jsonscan.scanner import Cut, Scanner
from cortex_autolearn.jsonscan.strict import (
    DECODE_ERRORS,
    MAX_DEPTH,
    MAX_KEYS,
    Fields,
    decode,
    is_json,
    parse,
    too_deep,
)
from cortex_autolearn.jsonscan.tokens import BEHIND, BOM

__all__ = ["MAX_DEPTH", "MAX_OBJECT_BYTES", "Broken", "Fields", "Object", "Reader", "read"]

MAX_OBJECT_BYTES: Final = 64 << 20

Object = tuple[int, bytes, Fields]
"""Offset of its `{` in the file, its exact bytes, and its top level."""


class Broken(msgspec.Struct, frozen=True):
    """A stretch of the file that is no object; `text` is None where the stretch is over the limit."""

    offset: int
    length: int
    reason: str
    text: bytes | None


Item = Object | Broken

_BLANK = re.compile(rb"(?:[ \t\r]|\xef\xbb\xbf)*+")
_WHITE: Final = b" \t\r\n"
_SHALLOW: Final = 2 * MAX_DEPTH  # bytes: a shorter object cannot nest too deeply
_NARROW: Final = 5 * MAX_KEYS  # likewise: a shorter one cannot have too many keys


def read(
    chunks: Iterable[bytes], start: int = 0, *, max_object_bytes: int = MAX_OBJECT_BYTES, closed: bool = False
) -> Iterator[Item]:
    """The objects and broken stretches in `chunks`, which follow each other from file offset `start` on.

    With `closed` (the file grows no more) an unfinished tail is quarantined; otherwise it is left alone.
    """
    reader = Reader(start, max_object_bytes=max_object_bytes)
    for chunk in chunks:
        yield from reader.feed(chunk)
    yield from reader.finish(closed=closed)


class Reader:
    """Reads one file's bytes as they come, in pieces of any size, from an offset an earlier reader had `consumed`.

    At any time `consumed - start == whitespace + object_bytes + broken_bytes`; the bytes fed after `consumed` are
    pending: an unfinished line or object.
    """

    def __init__(self, start: int = 0, *, max_object_bytes: int = MAX_OBJECT_BYTES) -> None:
        self.consumed = start
        self.whitespace = 0
        self.object_bytes = 0
        self.broken_bytes = 0
        self._limit = max_object_bytes
        self._carry: list[bytes] = []  # the pending bytes, while they are one line that has not ended
        self._carried = 0
        self._scanner: Scanner | None = None  # follows the pending stretch, whose bytes are in the buffer
        self._buffer = bytearray()
        self._closer = -1  # file offset of the next line that begins with `}`, as far as it was looked for

    def feed(self, data: bytes) -> list[Item]:
        """The next bytes of the file → what they complete, in the order of the file."""
        out: list[Item] = []
        if self._scanner is not None:
            self._buffer += data
            self._resume(out, last=False, final=False)
        elif b"\n" in data:
            self._lines(self._take(), data, out)
        else:
            self._keep(data)
            if self._carried > self._limit:
                # Followed from here on, so that no more than the limit is held.
                self._lines(b"", self._take(), out, final=True)
        return out

    def finish(self, *, closed: bool = False) -> list[Item]:
        """There are no more bytes for now → what is complete without them; with `closed`, everything."""
        out: list[Item] = []
        if self._scanner is not None:
            self._resume(out, last=closed, final=True)
        elif self._carry:
            self._lines(b"", self._take(), out, final=True, last=closed)
        return out

    def _keep(self, data: bytes) -> None:
        if data:
            self._carry.append(data)
            self._carried += len(data)

    def _take(self) -> bytes:
        data = b"".join(self._carry)
        self._carry.clear()
        self._carried = 0
        return data

    def _resume(self, out: list[Item], *, last: bool, final: bool) -> None:
        """Go on with the pending stretch, and then with what is after it."""
        scanner, buffer = self._scanner, self._buffer
        assert scanner is not None
        cut = scanner.advance(buffer, last)
        if cut is None:
            self._let_go()
            return
        end = self._settle(scanner, cut, buffer, out)
        self._scanner, self._buffer = None, bytearray()
        self._lines(b"", bytes(memoryview(buffer)[end:]), out, final=final, last=last)

    def _lines(self, head: bytes, data: bytes, out: list[Item], *, final: bool = False, last: bool = False) -> None:
        """Everything in `head + data`, which begins at `consumed`; `head` holds no line break, so it is one line.

        `final`: look at the line without an end, too; `last`: it will never have one.
        """
        at = 0
        if head:
            end = data.find(b"\n")
            line = head + data[: max(end, 0)]
            fields = parse(line) if end >= 0 and line[0] == OPEN and line[-1] == CLOSE else ""
            if isinstance(fields, str) or len(line) > self._limit:
                data = head + data  # copying is not free, so only where a broken line needs its block in one piece
            else:
                self._object(line, fields, out)
                at = end
        base = self.consumed - at
        edge = len(data) if final else data.rfind(b"\n") + 1
        while 0 <= at < edge:
            at = self._plain(data, base, at, out)
            if at < edge:
                at = self._others(data, base, at, edge, out, last)
        if at >= 0:
            self._keep(data[at:])

    def _plain(self, data: bytes, base: int, at: int, out: list[Item]) -> int:
        """The hot path: lines that are objects → the index of the first that is not, or that has no end."""
        find, append, limit = data.find, out.append, self._limit
        begin, objects = at, 0
        while (end := find(b"\n", at)) >= 0:
            line = data[at:end]
            if not line:
                at += 1
                continue
            if line[-1] != CLOSE or line[0] != OPEN or len(line) > _NARROW:
                break  # what is long is looked at before it is decoded
            try:
                fields = decode(line)
                line.isascii() or line.decode()
            except DECODE_ERRORS:
                break
            size = end - at
            if size > limit or (size > _SHALLOW and too_deep(line)):
                break
            append((base + at, line, fields))
            objects += size
            at = end + 1
        self.consumed += at - begin
        self.object_bytes += objects
        self.whitespace += at - begin - objects
        return at

    def _others(self, data: bytes, base: int, at: int, edge: int, out: list[Item], last: bool) -> int:
        """Items until a line starts, or `edge` → the index there; -1 if the rest is pending.

        `base`: the file offset of the first byte of `data`.
        """
        first = True
        while True:
            blank = _BLANK.match(data, at)
            assert blank is not None
            begin, at = at, blank.end()
            ended = at < len(data) and data[at] == NEWLINE
            at += ended
            self.consumed += at - begin
            self.whitespace += at - begin
            if ended or at >= edge:
                return at
            if len(data) - at < len(BOM) and not last and BOM.startswith(data[at:]):
                self._keep(data[at:])
                return -1
            quick = self._quick(data, base, at) if first and data[at] == OPEN else None
            first = False
            if quick is not None:
                at += self._object(*quick, out)
                continue
            scanner = Scanner(data, at, self._limit)
            cut = scanner.advance(data, last)
            if cut is None:
                self._scanner, self._buffer = scanner, bytearray(memoryview(data)[at:])
                scanner.shift(at)
                self._let_go()
                return -1
            at = self._settle(scanner, cut, data, out)

    def _quick(self, data: bytes, base: int, at: int) -> tuple[bytes, Fields] | None:
        """An object that ends with its line, or at the next `}` in column 0: what the scanner would find, faster."""
        newline = data.find(b"\n", at)
        text = data[at : newline if newline >= 0 else len(data)].rstrip(_WHITE)
        if text == b"{":
            if self._closer <= base + at:
                found = data.find(b"\n}", at)
                self._closer = base + (found if found >= 0 else len(data))
            text = data[at : self._closer - base + 2]
        if len(text) > self._limit or text[-1] != CLOSE:
            return None
        fields = parse(text)
        return None if isinstance(fields, str) else (text, fields)

    def _let_go(self) -> None:
        """Of a stretch over the limit, hold only the bytes that may still matter."""
        assert self._scanner is not None
        drop = self._scanner.held_from()
        if drop > 0:
            del self._buffer[:drop]
            self._scanner.shift(drop)

    def _object(self, text: bytes, fields: Fields, out: list[Item]) -> int:
        out.append((self.consumed, text, fields))
        self.consumed += len(text)
        self.object_bytes += len(text)
        return len(text)

    def _settle(self, scanner: Scanner, cut: Cut, data: bytes | bytearray, out: list[Item]) -> int:
        """A stretch that has ended becomes an item → the index after it."""
        text: bytes | None = None
        length = cut.end - scanner.start
        if cut.over:
            reason = f"over {self._limit} bytes"
            behind = bytes(data[max(0, scanner.start, cut.end - BEHIND) : cut.end])
            length -= len(behind) - len(behind.rstrip(_WHITE))
        else:
            text = bytes(data[scanner.start : cut.end])
            fields = parse(text) if cut.whole and scanner.root == OPEN else ""
            if not isinstance(fields, str):
                return scanner.start + self._object(text, fields, out)
            text = text.rstrip(_WHITE)
            length = len(text)
            reason = _reason(scanner, cut, text, fields)
        out.append(Broken(self.consumed, length, reason, text))
        self.consumed += length
        self.broken_bytes += length
        return scanner.start + length


def _reason(scanner: Scanner, cut: Cut, text: bytes, refusal: str) -> str:
    """Why a stretch is broken, in words that group: no positions, no content."""
    if scanner.loose:
        if not text.strip(b"\0"):
            return "NUL bytes"
        return "not an object" if is_json(text) else "not JSON"
    if too_deep(text) or (not cut.whole and cut.why == "nested too deeply"):
        return "nested too deeply"
    if scanner.root == OPEN_LIST:
        return "not an object" if cut.whole else "truncated array"
    if not cut.whole:
        return "truncated object"
    # The scanner names what it tripped over first; what it does not look into (escapes, UTF-8), the decoder names.
    return f"malformed object: {cut.why}" if cut.why and refusal != "invalid UTF-8" else refusal
