"""Where a stretch of JSON that is no plain line ends: a tolerant scanner.

The scanner follows one stretch, from a position where something fresh starts to where it ends: at the brace that
closes it, at a line break, or at the object that starts in the middle of it (writers die, and the next record follows).
Its decisions depend on nothing but the bytes after that position, so a run may be cut anywhere and gives the same.
What is made of a stretch (object, quarantine, ledger) is jsonstream's business.
"""

import re
from typing import Final, NamedTuple

from cortex_autolearn.jsonscan import tokens
from cortex_autolearn.jsonscan.candidates import AFTER_ERROR, ONE_LINE, WHOLE_LINES, Candidates
from cortex_autolearn.jsonscan.grammar import CLOSE, NEWLINE, OPEN, OPEN_LIST, QUOTE, Grammar
from cortex_autolearn.jsonscan.strict import is_json, too_deep
from cortex_autolearn.jsonscan.tokens import BEHIND, MORE, atom_end, following, spaces_end, string_end

MAX_OPEN: Final = 1 << 20  # open brackets that are followed before a stretch is cut: bounds the scanner's stack

_BACKSLASH, _APOSTROPHE = 0x5C, 0x27
_VALUE_BEFORE = re.compile(rb'(?:\[|"[ \t]*:)[ \t]*\Z')


class Cut(NamedTuple):
    """Where a stretch ends (an index into the scanned buffer), and what is known of it."""

    end: int
    whole: bool  # the bracket that opened the stretch was closed; otherwise it is broken and was cut here
    over: bool  # longer than the limit when that was found out: its first bytes may be gone
    why: str | None  # the first thing the grammar did not allow


class Scanner:
    """Follows one stretch through a growing buffer; indices are into that buffer (see `shift`)."""

    def __init__(self, data: bytes | bytearray, start: int, limit: int) -> None:
        self.start = start
        self.limit = limit
        self.root = data[start]
        self.loose = self.root not in (OPEN, OPEN_LIST)  # text that is no JSON: no strings, ends with its line
        self.at = start
        self._data = data
        self._size = len(data)
        self._last = False
        self._waiting = False
        self._cut: Cut | None = None
        self._high = start  # furthest position reached; `at` may step back into a torn string
        self._grammar = Grammar()
        self._inner = Candidates(limit)
        self._resume = -1  # in a string: where to go on looking for its end
        self._brace = -1  # the last token was a string that ends with this `{`
        self._comment = 0
        self._line_start = -1
        self._fresh = False  # a line break since the last token
        self._multi = False  # a token on a later line than the first
        self._flat = False  # a string in column 0: written without indentation, so column 0 says nothing
        self._padding = True  # in loose text: nothing but NUL, comma and white space so far
        self._why: str | None = None

    def advance(self, data: bytes | bytearray, last: bool) -> Cut | None:
        """Go on over the buffer, which has grown at its end. None: more bytes are needed (never when `last`)."""
        self._data, self._size, self._last = data, len(data), last
        while True:
            self._waiting = False
            if self.loose and not self._grammar.stack:
                self._text()
            else:
                self._token()
            if self._cut is None and not self._past_limit() and self._waiting:
                if not last:
                    self._data = b""  # the caller's to hold
                    return None
                if self._inner.maybe is None or not self._confirm():
                    self._end_at(self._size)
            if self._cut is not None:
                return self._cut

    def _past_limit(self) -> bool:
        """Whether a candidate is given up, or taken, because the limit of what can be held is reached.

        Asked at every point where a token that may be long can be interrupted by the end of the buffer, so that it
        makes no difference where that is.
        """
        position = self._high = max(self._high, self.at, self._resume)
        if self._inner.maybe is not None and position - self._inner.maybe.start > self.limit:
            return self._confirm()
        if self.loose and self._inner.marks and position - self._inner.marks[0].start > self.limit:
            self._end_at(self._inner.marks[0].start)
            return True
        return False

    def held_from(self) -> int:
        """The first index whose byte is still needed, once the stretch is over the limit; else its start."""
        if self._high - self.start <= self.limit:
            return self.start
        position = max(self.at, self._resume)
        needed = [position, self._brace if self._brace >= 0 else position]
        return max(0, min(needed + self._inner.needed(position)) - BEHIND)

    def shift(self, count: int) -> None:
        """The first `count` bytes have been dropped from the buffer."""
        self.start -= count
        self.at -= count
        self._high -= count
        self._line_start -= count
        self._resume = self._resume - count if self._resume >= 0 else -1
        self._brace = self._brace - count if self._brace >= 0 else -1
        self._inner.shift(count)

    def _end_at(self, end: int, *, whole: bool = False) -> None:
        self._high = max(self._high, self.at, self._resume)
        self._cut = Cut(end, whole, self._high - self.start > self.limit, self._why)

    def _text(self) -> None:
        """Text that is no JSON: it ends with its line, or at an object that is whole."""
        data, size = self._data, self._size
        if self._inner.maybe is not None:
            self.at = spaces_end(data, self.at)
            if self._past_limit():
                return
            if self.at >= size:
                self._waiting = True
                return
            if data[self.at] not in b",]}":
                self._confirm()
                return
            self._inner.maybe = None
        brace = data.find(b"{", self.at)
        stop = brace if brace >= 0 else size
        newline = data.find(b"\n", self.at, stop)
        if newline >= 0:
            self.at = newline
            self._end_at(newline)
            return
        if self._padding and data[self.at : stop].strip(b"\0, \t\r"):
            self._padding = False
        self.at = stop
        if brace < 0:
            self._waiting = True
            return
        after = self._peek(stop + 1)
        if after == MORE:
            return
        if after == QUOTE and self._padding:
            self._end_at(brace)  # a hole in the file, and a record after it
        elif after == QUOTE and not _VALUE_BEFORE.search(data[max(0, self.start, brace - BEHIND) : brace]):
            self._open(brace, OPEN, AFTER_ERROR)
        else:
            self._padding = False
            self.at = brace + 1

    def _token(self) -> None:
        data = self._data
        if self._resume >= 0:
            self._string(self.at)
            return
        if self._comment:
            self._skip_comment()
            return
        at = self.at = spaces_end(data, self.at)
        if self._past_limit():
            return
        if at >= self._size:
            self._waiting = True
            return
        byte = data[at]
        if byte == NEWLINE:
            self._newline(at)
            return
        if byte in b"#/\xef" and self._special(at, byte):
            return
        maybe = self._inner.maybe
        if maybe is not None and len(self._grammar.stack) == maybe.depth and self._follow(at, byte):
            return
        if byte == QUOTE:
            self._string(at)
        elif byte == OPEN:
            self._open_object(at)
        elif byte == OPEN_LIST:
            if self._grammar.takes_value() or not self._error(at, "unexpected bracket"):
                self._open(at, OPEN_LIST, None)
        elif byte in b"}]":
            self._close(at, OPEN if byte == CLOSE else OPEN_LIST)
        elif byte in b",:":
            self._separator(at, byte)
        else:
            self._atom(at, byte)

    def _accept(self, end: int) -> None:
        self.at = end
        self._brace = -1
        self._multi |= self._fresh
        self._fresh = False

    def _error(self, at: int, why: str) -> bool:
        """The grammar does not allow this token. True: the token is not to be handled (any more)."""
        self._why = self._why or why
        self._inner.marks.clear()
        if self._inner.maybe is not None and len(self._grammar.stack) > self._inner.maybe.depth and self._confirm():
            return True
        brace, self._brace = self._brace, -1
        if self.loose:
            self._grammar.forget()
            self.at = brace if brace >= 0 else at
            return True
        if brace >= 0:
            # "hello wor{"task_id":…: the string was torn, and its last byte is the next record's first.
            self._fresh = False
            self._open(brace, OPEN, AFTER_ERROR)
            return True
        return False

    def _newline(self, at: int) -> None:
        if self.loose:
            # The candidate is sound so far: what goes on over line breaks is an object, good or broken.
            self._end_at(self._inner.marks[0].start if self._inner.marks else at)
            return
        maybe = self._inner.maybe
        if maybe is not None and maybe.at_once and len(self._grammar.stack) == maybe.depth and self._confirm():
            return
        self.at = self._line_start = at + 1
        self._fresh = True

    def _special(self, at: int, byte: int) -> bool:
        """Comments, and a byte order mark at the start of a line. True: handled."""
        data = self._data
        if byte == tokens.BOM[0]:
            if at != self._line_start or not tokens.BOM.startswith(data[at : at + 3]):
                return False
            if self._size - at >= 3:
                self.at = self._line_start = at + 3
                return True
            self._waiting = not self._last
            return self._waiting
        kind = tokens.comment_kind(data, at, self._last)
        if kind <= 0:
            self._waiting = kind == MORE
            return self._waiting
        # A comment says nothing about what a closed candidate is followed by.
        beside = self._inner.maybe is not None and len(self._grammar.stack) == self._inner.maybe.depth
        if not beside and self._error(at, "comment"):
            return True
        self._comment = kind
        self.at = at + (1 if byte == 0x23 else 2)
        return True

    def _skip_comment(self) -> None:
        self.at, ended = tokens.comment_end(self._data, self.at, self._comment)
        self._comment = 0 if ended else self._comment
        self._waiting = not ended

    def _follow(self, at: int, byte: int) -> bool:
        """What follows a closed candidate: a nested object is followed by more of what holds it. True: handled."""
        if byte == OPEN and not self._fresh:
            after = self._peek(at + 1)  # glued objects share the fate of the last of them
            if after == MORE:
                return True
            return after not in (QUOTE, CLOSE) and self._confirm()
        if not self._inner.is_part(byte, fresh=self._fresh):
            return self._confirm()
        self._inner.maybe = None
        return False

    def _confirm(self) -> bool:
        """The candidate stands for itself: the stretch ends before it. False: it was no object after all."""
        start = self._inner.take(self._data)
        if start >= 0:
            self._end_at(start)
        return start >= 0

    def _open(self, at: int, bracket: int, kind: int | None) -> None:
        if len(self._grammar.stack) >= MAX_OPEN:
            self._why = "nested too deeply"
            self._end_at(at)
            return
        if kind is not None:
            self._inner.mark(len(self._grammar.stack), at, kind)
        self._grammar.open(bracket)
        self._accept(at + 1)

    def _open_object(self, at: int) -> None:
        first_column = at == self._line_start
        if self._grammar.takes_value():
            # Written without indentation, an array's objects are in column 0, too; after a colon nobody breaks lines.
            kind = ONE_LINE if self._flat and not self._grammar.after_colon() else WHOLE_LINES
            self._open(at, OPEN, kind if first_column else None)
            return
        after = self._peek(at + 1)
        if after == MORE:
            return
        starts = after in (QUOTE, CLOSE)
        if starts and first_column and not self._multi and not self.loose:
            self._end_at(at)  # one compact line was torn, and the next line begins like a record
            return
        if starts:
            self._brace = -1
        if not self._error(at, "unexpected bracket"):
            self._open(at, OPEN, AFTER_ERROR if starts else None)

    def _close(self, at: int, bracket: int) -> None:
        grammar, inner = self._grammar, self._inner
        why = grammar.wrong_close(bracket)
        if why is not None:
            if self._error(at, why):
                return
            if not grammar.holds(bracket):
                self._accept(at + 1)
                return
        grammar.close(bracket)
        self._accept(at + 1)
        if inner.marks and inner.marks[-1].depth == len(grammar.stack):
            inner.closed(self._data, at + 1, self._line_start)
        elif not grammar.stack:
            self._close_root(at + 1)

    def _close_root(self, end: int) -> None:
        in_line = self.root == OPEN_LIST and not self._multi and end - self.start <= self.limit
        if in_line:
            text = bytes(self._data[self.start : end])
            if not is_json(text) and not too_deep(text):
                # "[2025-11-27 10:00:00] INFO …": brackets in text
                self.loose, self._padding, self._inner.maybe = True, False, None
                return
        self._end_at(end, whole=True)

    def _separator(self, at: int, byte: int) -> None:
        why = self._grammar.wrong_separator(byte)
        if why is None or not self._error(at, why):
            self._grammar.separator(byte)
            self._accept(at + 1)

    def _atom(self, at: int, byte: int) -> None:
        data = self._data
        why: str | None = "text in single quotes"
        end = tokens.quoted_end(data, at, self._last) if byte == _APOSTROPHE else at
        if end == at:
            end = atom_end(data, at, self._last)
            why = None if end == MORE else self._grammar.wrong_atom(bytes(data[at:end]))
        if end == MORE:
            self._waiting = True
        elif why is None or not self._error(at, why):
            self._grammar.word()
            self._accept(end)

    def _string(self, at: int) -> None:
        if self._resume < 0:
            why = self._grammar.wrong_string()
            if why is not None and self._error(at, why):
                return
            self._flat |= at == self._line_start
            self._resume = at + 1
        data = self._data
        end = string_end(data, self._resume)
        self._high = max(self._high, end)
        if self._past_limit():
            return
        if end >= self._size or (data[end] == _BACKSLASH and end + 1 >= self._size):
            self._resume = end
            self._waiting = True
            return
        if data[end] != QUOTE:
            self._torn_string(at, end)
            return
        self._resume = -1
        brace = end - 2 if data[end - 1] == 0x20 else end - 1
        self._grammar.word()
        self._accept(end + 1)
        if brace > at and data[brace] == OPEN:
            self._brace = brace

    def _torn_string(self, at: int, end: int) -> None:
        """A line break inside a string (at `end`, perhaps after a backslash): the writer died there."""
        data = self._data
        newline = end if data[end] == NEWLINE else end + 1
        self._resume = end
        brace = tokens.before_break(data, newline, max(at, 0))
        if brace > max(at, 0) and data[brace] == OPEN:
            after = self._peek(newline + 1)
            if after == MORE:
                return
            # The next record, written over many lines, begins with the last byte of the torn string.
            self._brace = brace if after == QUOTE else -1
        self._resume = -1
        if self._error(newline, "line break in a string"):
            return
        if not self._multi and not self._fresh:
            self.at = newline
            self._end_at(newline)
            return
        # In an object over many lines the string ends with its line, so that the brackets after it still count.
        self._grammar.word()
        self._accept(newline)

    def _peek(self, at: int) -> int:
        """The next byte that is no white space; NO_BYTE at the end of all, MORE (and waiting) before it."""
        byte = following(self._data, at, self._last)
        if byte == MORE:
            self._waiting = True
        return byte
