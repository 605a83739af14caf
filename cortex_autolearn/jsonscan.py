"""Where a stretch of JSON that is no plain line ends: strict decoding, and a tolerant scanner for the rest.

The scanner follows one stretch, from a position where something fresh starts to where it ends: at the brace that
closes it, at a line break, or at the object that starts in the middle of it (writers die, and the next record follows).
Its decisions depend on nothing but the bytes after that position, so a run may be cut anywhere and gives the same.
What is made of a stretch (object, quarantine, ledger) is jsonstream's business.
"""

import re
from typing import Final, NamedTuple

import msgspec

Fields = dict[str, msgspec.Raw]

MAX_DEPTH: Final = 800  # msgspec gives up near 1000 on Python 3.11 and elsewhere later or never; we always here
MAX_KEYS: Final = 100_000  # of one object: what Python makes of a key takes some 300 bytes
MAX_OPEN: Final = 1 << 20  # open brackets that are followed before a stretch is cut: bounds the scanner's stack
BOM: Final = b"\xef\xbb\xbf"

QUOTE, OPEN, CLOSE, OPEN_LIST, CLOSE_LIST = 0x22, 0x7B, 0x7D, 0x5B, 0x5D
NEWLINE, COMMA, COLON, APOSTROPHE, BACKSLASH = 0x0A, 0x2C, 0x3A, 0x27, 0x5C

# What the grammar wants next. The names say what may come: inside an object, then inside an array.
KEY_OR_END, KEY, WANT_COLON, VALUE, NEXT, ITEM_OR_END, ITEM, ITEM_NEXT = range(8)
_VALUES = frozenset((VALUE, ITEM_OR_END, ITEM))
_KEYS = frozenset((KEY_OR_END, KEY))

# What a `{` that may be the start of the next record rests on.
AFTER_ERROR, WHOLE_LINES, ONE_LINE = range(3)

NO_BYTE, UNKNOWN_BYTE = -1, -2
_LINE_COMMENT, _BLOCK_COMMENT = 1, 2
_TOKEN_LIMIT: Final = 4096  # longest atom, gap or '…' read as one: what is longer is split, so waiting stays bounded
BEHIND: Final = 16  # bytes kept behind the position, for the few looks back

_SPACES = re.compile(rb"[ \t\r]*+")
_GAP = re.compile(rb"[ \t\r\n]{0,4096}+")
_ATOM = re.compile(rb'[^ \t\r\n{}\[\],:"]{1,4096}+')
_SINGLE = re.compile(rb"'(?:[^'\\\n]|\\[^\n]){0,4096}+'")
_STRING_BODY = re.compile(rb'[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+')
_LITERAL = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null")
_BLOCK_END = re.compile(rb"\*/|\n\{")
_VALUE_BEFORE = re.compile(rb'(?:\[|"[ \t]*:)[ \t]*\Z')
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NEXT_MARK = re.compile(rb'(?:[^"{}:]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+([{}:])', re.DOTALL)
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"{}[]")))
_KNOWN_NON_VALUES = frozenset((b"NaN", b"nan", b"Infinity", b"-Infinity", b"None", b"True", b"False", b"undefined"))

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


class Cut(NamedTuple):
    """Where a stretch ends (an index into the scanned buffer), and what is known of it."""

    end: int
    whole: bool  # the bracket that opened the stretch was closed; otherwise it is broken and was cut here
    over: bool  # longer than the limit when that was found out: its first bytes may be gone
    why: str | None  # the first thing the grammar did not allow


class _Mark(NamedTuple):
    """A `{` that may start a record of its own although the stretch before it is unfinished."""

    depth: int
    start: int
    kind: int


class _Maybe(NamedTuple):
    """A marked object that was closed."""

    depth: int
    start: int
    end: int
    kind: int
    at_once: bool  # the end of its line is enough


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
        self._stack = bytearray()
        self._objects = 0  # how many of the stack are `{`
        self._state = VALUE
        self._marks: list[_Mark] = []  # open ones, all of them without an error so far
        self._maybe: _Maybe | None = None  # closed and good: what follows decides whether it stands for itself
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
            if self.loose and not self._stack:
                self._text()
            else:
                self._token()
            if self._cut is None and not self._past_limit() and self._waiting:
                if not last:
                    self._data = b""  # the caller's to hold
                    return None
                if self._maybe is None or not self._confirm():
                    self._end_at(self._size)
            if self._cut is not None:
                return self._cut

    def _past_limit(self) -> bool:
        """Whether a candidate is given up, or taken, because the limit of what can be held is reached.

        Asked at every point where a token that may be long can be interrupted by the end of the buffer, so that it
        makes no difference where that is.
        """
        position = self._high = max(self._high, self.at, self._resume)
        if self._maybe is not None and position - self._maybe.start > self.limit:
            return self._confirm()
        if self.loose and self._marks and position - self._marks[0].start > self.limit:
            self._end_at(self._marks[0].start)
            return True
        return False

    def held_from(self) -> int:
        """The first index whose byte is still needed, once the stretch is over the limit; else its start."""
        if self._high - self.start <= self.limit:
            return self.start
        position = max(self.at, self._resume)
        needed = [position, self._brace if self._brace >= 0 else position]
        needed += [self._maybe.start] if self._maybe is not None else []
        # A longer candidate would be over the limit itself, so its bytes are not needed.
        needed += [mark.start for mark in self._marks if position - mark.start <= self.limit][:1]
        return max(0, min(needed) - BEHIND)

    def shift(self, count: int) -> None:
        """The first `count` bytes have been dropped from the buffer."""
        self.start -= count
        self.at -= count
        self._high -= count
        self._line_start -= count
        self._resume = self._resume - count if self._resume >= 0 else -1
        self._brace = self._brace - count if self._brace >= 0 else -1
        self._marks = [mark._replace(start=mark.start - count) for mark in self._marks]
        if self._maybe is not None:
            maybe = self._maybe
            self._maybe = maybe._replace(start=maybe.start - count, end=maybe.end - count)

    def _end_at(self, end: int, *, whole: bool = False) -> None:
        self._high = max(self._high, self.at, self._resume)
        self._cut = Cut(end, whole, self._high - self.start > self.limit, self._why)

    def _text(self) -> None:
        """Text that is no JSON: it ends with its line, or at an object that is whole."""
        data, size = self._data, self._size
        if self._maybe is not None:
            self.at = _end(_SPACES, data, self.at)
            if self._past_limit():
                return
            if self.at >= size:
                self._waiting = True
                return
            if data[self.at] not in b",]}":
                self._confirm()
                return
            self._maybe = None
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
        following = self._peek(stop + 1)
        if following == UNKNOWN_BYTE:
            return
        if following == QUOTE and self._padding:
            self._end_at(brace)  # a hole in the file, and a record after it
        elif following == QUOTE and not _VALUE_BEFORE.search(data[max(0, self.start, brace - BEHIND) : brace]):
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
        at = self.at = _end(_SPACES, data, self.at)
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
        if self._maybe is not None and len(self._stack) == self._maybe.depth and self._follow(at, byte):
            return
        if byte == QUOTE:
            self._string(at)
        elif byte == OPEN:
            self._open_object(at)
        elif byte == OPEN_LIST:
            if self._state in _VALUES or not self._error(at, "unexpected bracket"):
                self._open(at, OPEN_LIST, None)
        elif byte in (CLOSE, CLOSE_LIST):
            self._close(at, OPEN if byte == CLOSE else OPEN_LIST)
        elif byte in (COMMA, COLON):
            self._separator(at, byte)
        else:
            self._atom(at, byte)

    def _accept(self, end: int, state: int) -> None:
        self.at = end
        self._state = state
        self._brace = -1
        self._multi |= self._fresh
        self._fresh = False

    def _error(self, at: int, why: str) -> bool:
        """The grammar does not allow this token. True: the token is not to be handled (any more)."""
        self._why = self._why or why
        self._marks.clear()
        if self._maybe is not None and len(self._stack) > self._maybe.depth and self._confirm():
            return True
        brace, self._brace = self._brace, -1
        if self.loose:
            self._stack.clear()
            self._objects = 0
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
            self._end_at(self._marks[0].start if self._marks else at)
            return
        maybe = self._maybe
        if maybe is not None and maybe.at_once and len(self._stack) == maybe.depth and self._confirm():
            return
        self.at = self._line_start = at + 1
        self._fresh = True

    def _special(self, at: int, byte: int) -> bool:
        """Comments, and a byte order mark at the start of a line. True: handled."""
        data = self._data
        if byte == BOM[0]:
            if at != self._line_start or not BOM.startswith(data[at : at + 3]):
                return False
            if self._size - at >= 3:
                self.at = self._line_start = at + 3
                return True
            self._waiting = not self._last
            return self._waiting
        if byte == 0x2F:
            if at + 1 >= self._size:
                self._waiting = not self._last
                return self._waiting
            if data[at + 1] not in b"/*":
                return False
        # A comment says nothing about what a closed candidate is followed by.
        beside = self._maybe is not None and len(self._stack) == self._maybe.depth
        if not beside and self._error(at, "comment"):
            return True
        self._comment = _BLOCK_COMMENT if byte == 0x2F and data[at + 1] == 0x2A else _LINE_COMMENT
        self.at = at + (1 if byte == 0x23 else 2)
        return True

    def _skip_comment(self) -> None:
        data = self._data
        if self._comment == _LINE_COMMENT:
            newline = data.find(b"\n", self.at)
            self.at = newline if newline >= 0 else self._size
            self._waiting = newline < 0
        else:
            # A record in column 0 ends it too, or an unclosed comment would swallow the file.
            match = _BLOCK_END.search(data, self.at)
            if match is None:
                self.at = max(self.at, self._size - 1)
                self._waiting = True
                return
            self.at = match.start() if data[match.start()] == NEWLINE else match.end()
        self._comment = 0 if not self._waiting else self._comment

    def _follow(self, at: int, byte: int) -> bool:
        """What follows a closed candidate: a nested object is followed by more of what holds it. True: handled."""
        maybe = self._maybe
        assert maybe is not None
        after_error = maybe.kind == AFTER_ERROR
        if byte in b",]}:":
            self._maybe = None
        elif byte == OPEN and not self._fresh:
            following = self._peek(at + 1)  # glued objects share the fate of the last of them
            if following == UNKNOWN_BYTE:
                return True
            return following not in (QUOTE, CLOSE) and self._confirm()
        elif (byte == QUOTE and not (after_error and self._fresh)) or not (after_error or self._fresh):
            self._maybe = None
        else:
            return self._confirm()
        return False

    def _confirm(self) -> bool:
        """The candidate stands for itself: the stretch ends before it. False: it was no object after all."""
        maybe, self._maybe = self._maybe, None
        assert maybe is not None
        if maybe.kind != AFTER_ERROR and not self._good(maybe.start, maybe.end):
            return False
        self._end_at(maybe.start)
        return True

    def _candidate(self, mark: _Mark, end: int) -> None:
        """A marked object was closed without an error in it."""
        one_line = self._line_start <= mark.start
        if self._maybe is not None or end - mark.start > self.limit or (mark.kind == ONE_LINE and not one_line):
            return
        # After an error it is decoded now; where a value may stand, valid objects pass here and need no decoding.
        if mark.kind == AFTER_ERROR and not self._good(mark.start, end):
            return
        at_once = mark.kind == AFTER_ERROR and self._line_start == mark.start
        self._maybe = _Maybe(len(self._stack), mark.start, end, mark.kind, at_once)

    def _good(self, start: int, end: int) -> bool:
        return not isinstance(parse(bytes(self._data[start:end])), str)

    def _open(self, at: int, bracket: int, kind: int | None) -> None:
        if len(self._stack) >= MAX_OPEN:
            self._why = "nested too deeply"
            self._end_at(at)
            return
        if kind is not None and len(self._marks) < 2 * MAX_DEPTH:
            self._marks.append(_Mark(len(self._stack), at, kind))
        self._stack.append(bracket)
        self._objects += bracket == OPEN
        self._accept(at + 1, KEY_OR_END if bracket == OPEN else ITEM_OR_END)

    def _open_object(self, at: int) -> None:
        first_column = at == self._line_start
        if self._state in _VALUES:
            # Written without indentation, an array's objects are in column 0, too; after a colon nobody breaks lines.
            kind = ONE_LINE if self._flat and self._state != VALUE else WHOLE_LINES
            self._open(at, OPEN, kind if first_column else None)
            return
        following = self._peek(at + 1)
        if following == UNKNOWN_BYTE:
            return
        starts = following in (QUOTE, CLOSE)
        if starts and first_column and not self._multi and not self.loose:
            self._end_at(at)  # one compact line was torn, and the next line begins like a record
            return
        if starts:
            self._brace = -1
        if not self._error(at, "unexpected bracket"):
            self._open(at, OPEN, AFTER_ERROR if starts else None)

    def _close(self, at: int, bracket: int) -> None:
        stack = self._stack
        complete = (KEY_OR_END, NEXT) if bracket == OPEN else (ITEM_OR_END, ITEM_NEXT)
        if stack[-1] != bracket or self._state not in complete:
            if self._error(at, self._unfinished() if stack[-1] == bracket else "mismatched brackets"):
                return
            if (self._objects if bracket == OPEN else len(stack) - self._objects) == 0:
                self._accept(at + 1, self._state)
                return
            while stack[-1] != bracket:
                self._objects -= stack.pop() == OPEN
        self._objects -= stack.pop() == OPEN
        self._accept(at + 1, self._after_value())
        if self._marks and self._marks[-1].depth == len(stack):
            self._candidate(self._marks.pop(), at + 1)
        elif not stack:
            self._close_root(at + 1)

    def _close_root(self, end: int) -> None:
        in_line = self.root == OPEN_LIST and not self._multi and end - self.start <= self.limit
        if in_line:
            text = bytes(self._data[self.start : end])
            if not is_json(text) and not too_deep(text):
                # "[2025-11-27 10:00:00] INFO …": brackets in text
                self.loose, self._padding, self._maybe = True, False, None
                return
        self._end_at(end, whole=True)

    def _unfinished(self) -> str:
        if self._state in (VALUE, WANT_COLON):
            return "missing value"
        return "trailing comma" if self._state in (KEY, ITEM) else "unexpected bracket"

    def _after_value(self) -> int:
        return NEXT if not self._stack or self._stack[-1] == OPEN else ITEM_NEXT

    def _separator(self, at: int, byte: int) -> None:
        in_object = self._stack[-1] == OPEN
        allowed = self._state == WANT_COLON if byte == COLON else self._state in (NEXT, ITEM_NEXT)
        unexpected = "unexpected colon" if byte == COLON else "unexpected comma"
        if not allowed and self._error(at, "missing value" if self._state in _VALUES else unexpected):
            return
        if byte == COLON:
            self._accept(at + 1, VALUE if in_object else ITEM)
        else:
            self._accept(at + 1, KEY if in_object else ITEM)

    def _after_word(self) -> int:
        """The state after a string or an atom, also after one that the grammar does not allow here."""
        if self._state in _VALUES:
            return self._after_value()
        return self._state if self._state == ITEM_NEXT else WANT_COLON

    def _atom(self, at: int, byte: int) -> None:
        match = _SINGLE.match(self._data, at) if byte == APOSTROPHE else None
        if match is not None:
            why: str | None = "text in single quotes"
        else:
            short = self._size - at <= 2 * _TOKEN_LIMIT + 2 and not self._last
            if byte == APOSTROPHE and short and self._data.find(b"\n", at) < 0:
                self._waiting = True
                return
            match = _ATOM.match(self._data, at)
            assert match is not None
            if match.end() == self._size and match.end() - at < _TOKEN_LIMIT and not self._last:
                self._waiting = True
                return
            why = self._wrong_atom(match.group())
        if why is not None and self._error(at, why):
            return
        self._accept(match.end(), self._after_word())

    def _wrong_atom(self, text: bytes) -> str | None:
        if self._state in _KEYS:
            return "key without quotes"
        if self._state not in _VALUES:
            return "missing colon" if self._state == WANT_COLON else "missing comma"
        if _LITERAL.fullmatch(text):
            return None
        return f"not a JSON value ({text.decode()})" if text in _KNOWN_NON_VALUES else "not a JSON value"

    def _string(self, at: int) -> None:
        if self._resume < 0:
            unexpected = self._state not in _VALUES and self._state not in _KEYS
            if unexpected and self._error(at, "missing colon" if self._state == WANT_COLON else "missing comma"):
                return
            self._flat |= at == self._line_start
            self._resume = at + 1
        data = self._data
        end = _end(_STRING_BODY, data, self._resume)
        self._high = max(self._high, end)
        if self._past_limit():
            return
        if end >= self._size or (data[end] == BACKSLASH and end + 1 >= self._size):
            self._resume = end
            self._waiting = True
            return
        if data[end] != QUOTE:
            self._torn_string(at, end)
            return
        self._resume = -1
        brace = end - 2 if data[end - 1] == 0x20 else end - 1
        self._accept(end + 1, self._after_word())
        if brace > at and data[brace] == OPEN:
            self._brace = brace

    def _torn_string(self, at: int, end: int) -> None:
        """A line break inside a string (at `end`, perhaps after a backslash): the writer died there."""
        data = self._data
        newline = end if data[end] == NEWLINE else end + 1
        self._resume = end
        brace = newline - 1
        while brace > max(at, 0, newline - BEHIND) and data[brace] in b" \t\r":
            brace -= 1
        if brace > max(at, 0) and data[brace] == OPEN:
            following = self._peek(newline + 1)
            if following == UNKNOWN_BYTE:
                return
            # The next record, written over many lines, begins with the last byte of the torn string.
            self._brace = brace if following == QUOTE else -1
        self._resume = -1
        if self._error(newline, "line break in a string"):
            return
        if not self._multi and not self._fresh:
            self.at = newline
            self._end_at(newline)
            return
        # In an object over many lines the string ends with its line, so that the brackets after it still count.
        self._accept(newline, self._after_word())

    def _peek(self, at: int) -> int:
        """The next byte that is no white space; NO_BYTE at the end of all, UNKNOWN_BYTE (and waiting) before it."""
        end = _end(_GAP, self._data, at)
        if end < self._size:
            return self._data[end]
        if self._last:
            return NO_BYTE
        self._waiting = True
        return UNKNOWN_BYTE


def _end(pattern: re.Pattern[bytes], data: bytes | bytearray, at: int) -> int:
    match = pattern.match(data, at)
    assert match is not None  # these patterns match the empty string
    return match.end()
