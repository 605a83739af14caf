"""JSON's grammar, for text that may break it: which brackets are open, what may come next, what is wrong with a word.

It sees tokens, not bytes: where they begin and end, and what follows from an error, is `scanner`'s business.
"""

import re
from typing import Final

QUOTE, OPEN, CLOSE, OPEN_LIST, COLON, NEWLINE = 0x22, 0x7B, 0x7D, 0x5B, 0x3A, 0x0A

# What the grammar wants next. The names say what may come: inside an object, then inside an array.
_KEY_OR_END, _KEY, _WANT_COLON, _VALUE, _NEXT, _ITEM_OR_END, _ITEM, _ITEM_NEXT = range(8)
_VALUES: Final = frozenset((_VALUE, _ITEM_OR_END, _ITEM))
_KEYS: Final = frozenset((_KEY_OR_END, _KEY))
_WORDS: Final = _VALUES | _KEYS
_OBJECT_ENDS: Final = frozenset((_KEY_OR_END, _NEXT))
_LIST_ENDS: Final = frozenset((_ITEM_OR_END, _ITEM_NEXT))

_LITERAL = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null")
_KNOWN_NON_VALUES = frozenset((b"NaN", b"nan", b"Infinity", b"-Infinity", b"None", b"True", b"False", b"undefined"))


class Grammar:
    """How far one value has been followed; a step may also be taken where it is wrong."""

    def __init__(self) -> None:
        self.stack = bytearray()  # the open brackets
        self._objects = 0  # how many of them are `{`
        self._state = _VALUE

    def takes_value(self) -> bool:
        """Whether a value may come."""
        return self._state in _VALUES

    def after_colon(self) -> bool:
        """Whether the value of a key must come, or of the whole."""
        return self._state == _VALUE

    def open(self, bracket: int) -> None:
        """A bracket opens."""
        self.stack.append(bracket)
        self._objects += bracket == OPEN
        self._state = _KEY_OR_END if bracket == OPEN else _ITEM_OR_END

    def wrong_close(self, bracket: int) -> str | None:
        """Why the innermost of the open brackets may not be closed as one of this kind; None where it may."""
        if self.stack[-1] != bracket:
            return "mismatched brackets"
        if self._state in (_OBJECT_ENDS if bracket == OPEN else _LIST_ENDS):
            return None
        if self._state in (_VALUE, _WANT_COLON):
            return "missing value"
        return "trailing comma" if self._state in (_KEY, _ITEM) else "unexpected bracket"

    def holds(self, bracket: int) -> bool:
        """Whether any of the open brackets is of this kind."""
        return (self._objects if bracket == OPEN else len(self.stack) - self._objects) > 0

    def close(self, bracket: int) -> None:
        """The innermost bracket of this kind is closed, and with it all within."""
        stack = self.stack
        while stack[-1] != bracket:
            self._objects -= stack.pop() == OPEN
        self._objects -= stack.pop() == OPEN
        self._state = _NEXT if not stack or stack[-1] == OPEN else _ITEM_NEXT

    def forget(self) -> None:
        """No bracket is open any more."""
        self.stack.clear()
        self._objects = 0

    def wrong_separator(self, byte: int) -> str | None:
        """Why a comma or colon may not come; None where it may."""
        if self._state == _WANT_COLON if byte == COLON else self._state in (_NEXT, _ITEM_NEXT):
            return None
        if self._state in _VALUES:
            return "missing value"
        return "unexpected colon" if byte == COLON else "unexpected comma"

    def separator(self, byte: int) -> None:
        """A comma or colon."""
        in_object = self.stack[-1] == OPEN
        if byte == COLON:
            self._state = _VALUE if in_object else _ITEM
        else:
            self._state = _KEY if in_object else _ITEM

    def wrong_string(self) -> str | None:
        """Why a string may not come; None where it may."""
        if self._state in _WORDS:
            return None
        return "missing colon" if self._state == _WANT_COLON else "missing comma"

    def wrong_atom(self, text: bytes) -> str | None:
        """Why an atom may not come; None where it may."""
        if self._state in _KEYS:
            return "key without quotes"
        if self._state not in _VALUES:
            return "missing colon" if self._state == _WANT_COLON else "missing comma"
        if _LITERAL.fullmatch(text):
            return None
        return f"not a JSON value ({text.decode()})" if text in _KNOWN_NON_VALUES else "not a JSON value"

    def word(self) -> None:
        """A string or an atom, also one that may not come here."""
        state = self._state
        if state in _VALUES:
            self._state = _NEXT if not self.stack or self.stack[-1] == OPEN else _ITEM_NEXT
        elif state != _ITEM_NEXT:
            self._state = _WANT_COLON
