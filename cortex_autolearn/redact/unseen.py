r"""What stands in a text and is not seen: colours of a terminal, also written as escapes, and signs without a width.

A name, its equals sign and its value may each have a colour of their own, and a token a sign within it that a page or
a chat has put there. So a text that holds such things is also looked at as a person sees it.
"""

import re
from functools import cache
from itertools import accumulate
from typing import Final, NamedTuple

from cortex_autolearn.redact.spans import Span

_WIDTHLESS: Final = "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
_MARKS: Final = ("\x1b", "1b[", "1B[", "033[", "\\e[")


class _Shapes(NamedTuple):
    unseen: re.Pattern[str]
    widthless: re.Pattern[str]


@cache
def _compiled() -> _Shapes:
    return _Shapes(
        re.compile(
            r"(?:\x1b|\\{1,64}+(?:u001[bB]|x1[bB]|033|e))(?:\[[0-9;:]{0,40}+[A-Za-z]|\(B)" + rf"|[{_WIDTHLESS}]+"
        ),
        re.compile(f"[{_WIDTHLESS}]"),
    )


class Seen(NamedTuple):
    """A text without what is not seen, and where each piece of it stood."""

    text: str
    starts: list[int]  # of the pieces in this text; the first is 0
    shifts: list[int]  # what lies before each piece and is not seen, in characters

    def back(self, span: Span) -> Span:
        """The same stretch in the text as it was."""
        start, end = (at + self.shifts[self._piece(at)] for at in (span.start, span.end - 1))
        return span._replace(start=start, end=end + 1)

    def _piece(self, at: int) -> int:
        """The piece that holds the place: the last that begins there or before."""
        low, high = 0, len(self.starts)
        while high - low > 1:  # as bisect does, whose import would cost more than this
            middle = (low + high) // 2
            low, high = (middle, high) if self.starts[middle] <= at else (low, middle)
        return low


def seen(text: str) -> Seen | None:
    """The text as a person sees it; None where that is the text itself."""
    shapes = _compiled()
    if not any(mark in text for mark in _MARKS) and (text.isascii() or shapes.widthless.search(text) is None):
        return None
    pieces, gaps, at = [], [], 0
    for found in shapes.unseen.finditer(text):
        pieces.append(text[at : found.start()])
        gaps.append(found.end() - found.start())
        at = found.end()
    if not gaps:
        return None
    starts = list(accumulate(map(len, pieces), initial=0))
    return Seen("".join((*pieces, text[at:])), starts, list(accumulate(gaps, initial=0)))
