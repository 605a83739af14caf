"""Where a token ends in bytes that may go on: white space, strings, atoms, comments.

No end is looked for further than is needed to know it, and MORE says that this depends on bytes that are not there yet.
What a token means where it stands is `grammar`'s business.
"""

import re
from typing import Final

BOM: Final = b"\xef\xbb\xbf"
BEHIND: Final = 16  # bytes kept behind the position, for the few looks back

MORE, NO_BYTE = -1, -2
LINE_COMMENT, BLOCK_COMMENT = 1, 2
_TOKEN_LIMIT: Final = 4096  # longest atom, gap or '…' read as one: what is longer is split, so waiting stays bounded

_SPACES = re.compile(rb"[ \t\r]*+")
_GAP = re.compile(rb"[ \t\r\n]{0,4096}+")
_ATOM = re.compile(rb'[^ \t\r\n{}\[\],:"]{1,4096}+')
_SINGLE = re.compile(rb"'(?:[^'\\\n]|\\[^\n]){0,4096}+'")
_STRING_BODY = re.compile(rb'[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+')
_BLOCK_END = re.compile(rb"\*/|\n\{")


def spaces_end(data: bytes | bytearray, at: int) -> int:
    """The end of white space in its line."""
    match = _SPACES.match(data, at)
    assert match is not None  # it matches the empty string
    return match.end()


def string_end(data: bytes | bytearray, at: int) -> int:
    """The closing quote, the line break that the string holds, perhaps after a backslash, or the end of the data."""
    match = _STRING_BODY.match(data, at)
    assert match is not None  # it matches the empty string
    return match.end()


def before_break(data: bytes | bytearray, newline: int, least: int) -> int:
    """The index of the last byte before a line break that is no white space, as far as is looked back."""
    at = newline - 1
    while at > max(least, newline - BEHIND) and data[at] in b" \t\r":
        at -= 1
    return at


def following(data: bytes | bytearray, at: int, last: bool) -> int:
    """The next byte that is no white space; NO_BYTE at the end of all."""
    match = _GAP.match(data, at)
    assert match is not None  # it matches the empty string
    if match.end() < len(data):
        return data[match.end()]
    return NO_BYTE if last else MORE


def quoted_end(data: bytes | bytearray, at: int, last: bool) -> int:
    """The end of text in single quotes, the first of which is at this index; the index itself where it is none."""
    match = _SINGLE.match(data, at)
    if match is not None:
        return match.end()
    short = len(data) - at <= 2 * _TOKEN_LIMIT + 2 and not last
    return MORE if short and data.find(b"\n", at) < 0 else at


def atom_end(data: bytes | bytearray, at: int, last: bool) -> int:
    """The end of a number, a literal or any other word."""
    match = _ATOM.match(data, at)
    assert match is not None
    if match.end() == len(data) and match.end() - at < _TOKEN_LIMIT and not last:
        return MORE
    return match.end()


def comment_kind(data: bytes | bytearray, at: int, last: bool) -> int:
    """Which comment begins with the `#` or `/` at this index; 0 where it is none."""
    if data[at] == 0x23:
        return LINE_COMMENT
    if at + 1 >= len(data):
        return 0 if last else MORE
    return {0x2F: LINE_COMMENT, 0x2A: BLOCK_COMMENT}.get(data[at + 1], 0)


def comment_end(data: bytes | bytearray, at: int, kind: int) -> tuple[int, bool]:
    """The end of a comment; or as far as it was followed, and False."""
    if kind == LINE_COMMENT:
        newline = data.find(b"\n", at)
        return (newline, True) if newline >= 0 else (len(data), False)
    # A record in column 0 ends it too, or an unclosed comment would swallow the file.
    match = _BLOCK_END.search(data, at)
    if match is None:
        return max(at, len(data) - 1), False
    return (match.end() if match.group() == b"*/" else match.start()), True
