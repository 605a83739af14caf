r"""Quotes: how a string opens, and where it ends, also where its text was encoded in JSON, once or many times.

In JSON a quote within a string has a backslash; encoded once more, three; then seven. Other encodings of a quote
(&quot;, \u0022) end at the next of the same kind.
"""

from typing import Final

QUOTE: Final = r"\\{0,64}[\"'`]|&quot;|&\#3[49];|\\{1,64}u002[27]|[\u201c\u2018\u00ab]"
_CLOSING: Final = {"\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_LONGEST: Final = 8192  # characters of a string


def quoted_end(text: str, start: int, quote: str) -> int | None:
    """Where the string ends that `quote` opened just before `start`, on the same line; None when it does not.

    With n backslashes before the opening quote, one closes when the backslashes before it, counted modulo 2n + 2, are
    n: the others are pairs that belong to the string. Fewer than n close too: there ends the string around this one.
    """
    limit = text.find("\n", start, start + _LONGEST)
    limit = min(start + _LONGEST, len(text)) if limit < 0 else limit
    mark = quote[-1]
    if mark not in "\"'`":
        found = text.find(_CLOSING.get(quote, quote), start, limit)
        return None if found < 0 else found
    depth = len(quote) - 1
    at = text.find(mark, start, limit)
    while at >= 0:
        before = text[max(start, at - 130) : at]
        slashes = len(before) - len(before.rstrip("\\"))
        if slashes < depth or slashes % (2 * depth + 2) == depth:
            return at - min(slashes, depth)
        at = text.find(mark, at + 1, limit)
    return None
