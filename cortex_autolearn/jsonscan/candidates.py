"""Objects in the middle of a broken stretch that may be records of their own: writers die, and the next record follows.

One is marked where it opens, and is a candidate once it was closed without an error in it. Whether it then stands for
itself depends on what follows it, which `scanner` sees.
"""

from typing import Final, NamedTuple

from cortex_autolearn.jsonscan.grammar import QUOTE
from cortex_autolearn.jsonscan.strict import MAX_DEPTH, parse

# What a `{` that may be the start of the next record rests on.
AFTER_ERROR, WHOLE_LINES, ONE_LINE = range(3)

_MAX_MARKS: Final = 2 * MAX_DEPTH


class Mark(NamedTuple):
    """A `{` that may start a record of its own although the stretch before it is unfinished."""

    depth: int
    start: int
    kind: int


class Maybe(NamedTuple):
    """A marked object that was closed."""

    depth: int
    start: int
    end: int
    kind: int
    at_once: bool  # the end of its line is enough


class Candidates:
    """Those of one stretch; indices are into the scanner's buffer (see `shift`)."""

    def __init__(self, limit: int) -> None:
        self.marks: list[Mark] = []  # open ones, all of them without an error so far
        self.maybe: Maybe | None = None  # closed and good: what follows decides whether it stands for itself
        self._limit = limit

    def mark(self, depth: int, start: int, kind: int) -> None:
        """A bracket that may open a record stands at `start`, within `depth` open brackets."""
        if len(self.marks) < _MAX_MARKS:
            self.marks.append(Mark(depth, start, kind))

    def closed(self, data: bytes | bytearray, end: int, line_start: int) -> None:
        """The innermost marked object was closed without an error in it, on the line that begins at `line_start`."""
        mark = self.marks.pop()
        one_line = line_start <= mark.start
        if self.maybe is not None or end - mark.start > self._limit or (mark.kind == ONE_LINE and not one_line):
            return
        # After an error it is decoded now; where a value may stand, valid objects pass here and need no decoding.
        if mark.kind == AFTER_ERROR and not _good(data, mark.start, end):
            return
        at_once = mark.kind == AFTER_ERROR and line_start == mark.start
        self.maybe = Maybe(mark.depth, mark.start, end, mark.kind, at_once)

    def take(self, data: bytes | bytearray) -> int:
        """What follows lets the closed one stand for itself: where it starts; -1: it was no object after all."""
        maybe, self.maybe = self.maybe, None
        assert maybe is not None
        if maybe.kind != AFTER_ERROR and not _good(data, maybe.start, maybe.end):
            return -1
        return maybe.start

    def is_part(self, byte: int, *, fresh: bool) -> bool:
        """Whether the closed one is followed by more of what holds it; `fresh`: on a later line."""
        assert self.maybe is not None
        if byte in b",]}:":
            return True
        after_error = self.maybe.kind == AFTER_ERROR
        return (byte == QUOTE and not (after_error and fresh)) or not (after_error or fresh)

    def needed(self, position: int) -> list[int]:
        """The starts of those whose bytes may still be asked for when the scanner has come to `position`."""
        starts = [self.maybe.start] if self.maybe is not None else []
        # A longer candidate would be over the limit itself, so its bytes are not needed.
        return starts + [mark.start for mark in self.marks if position - mark.start <= self._limit][:1]

    def shift(self, count: int) -> None:
        """The first `count` bytes have been dropped from the buffer."""
        self.marks = [mark._replace(start=mark.start - count) for mark in self.marks]
        if self.maybe is not None:
            maybe = self.maybe
            self.maybe = maybe._replace(start=maybe.start - count, end=maybe.end - count)


def _good(data: bytes | bytearray, start: int, end: int) -> bool:
    return not isinstance(parse(bytes(data[start:end])), str)
