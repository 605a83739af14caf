"""Strings that look random and stand beside a word that speaks of a secret, although nothing is assigned.

What has a shape of its own is the business of `tokens`; what is assigned to a name, of `assigned`.
"""

import re
import string
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from cortex_autolearn.redact.spans import Span, stretches, table
from cortex_autolearn.redact.values import is_random

RULES: Final = ("aws-secret", "random")

_NEAR: Final = 48  # characters between a word and a random string it speaks of
_NEAR_BEHIND: Final = 24
_NEAR_AWS: Final = 80


_MEMBERS: Final = table(string.ascii_letters + string.digits + "+/=_-")
_WORDS: Final = ("pass", "pwd", "secret", "token", "key", "credential", "bearer")


class _Shapes(NamedTuple):
    aws: re.Pattern[str]
    word: re.Pattern[str]


@cache
def _compiled() -> _Shapes:
    return _Shapes(
        re.compile(r"(?<![A-Za-z0-9/+_.-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_-])"),
        re.compile(
            r"pass(?:word|wd|phrase|code)|pwd|secret|token|credential|bearer"
            r"|(?:api|access|auth|private|signing|account)[ _-]?key"
        ),
    )


def spans(text: str, low: str) -> Iterator[Span]:
    """Every one in the text; `low` is the text in small letters, place by place."""
    shapes = _compiled()
    if "aws" in low:
        for found in shapes.aws.finditer(text):
            value = found[0]
            drawn = any(map(str.isdigit, value)) and any(map(str.islower, value)) and any(map(str.isupper, value))
            if drawn and "aws" in low[max(0, found.start() - _NEAR_AWS) : found.start()]:
                yield Span(*found.span(), "aws-secret")
    if not any(word in low for word in _WORDS):
        return
    for start, end in stretches(text, _MEMBERS):
        run = text[start:end]
        # What follows an equals sign within the run is looked at by itself: key=abc…
        value = run.rpartition("=")[2] if "=" in run.rstrip("=") else run
        before = low[max(0, start - _NEAR) : end - len(value)].rpartition("\n")[2]
        behind = low[end : end + _NEAR_BEHIND].partition("\n")[0]
        if (shapes.word.search(before) or shapes.word.search(behind)) and is_random(value):
            yield Span(end - len(value), end, "random")
