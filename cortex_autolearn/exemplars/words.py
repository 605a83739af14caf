"""Texts as words: what two texts have in common, and about how long one is. Rules only.

Words are folded so that case, width and accents written in two ways do not matter. Long numbers are left out: in a
fleet's tasks they are serial numbers and identifiers, which are rare, and would look like the best of matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import Final
from unicodedata import category, normalize
from zlib import crc32

MAX_CHARS: Final = 6_000
"""Of a longer text only the beginning is compared."""

_SKETCH: Final = 64
_CHARS_PER_TOKEN: Final = 3
_LONGEST_WORD: Final = 40
_LONGEST_NUMBER: Final = 3
# Scripts without spaces: Thai and Lao, Burmese, Khmer, and what begins with the Chinese ones.
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0010ffff"
_is_unspaced = re.compile(f"[{_UNSPACED}]").match
_runs = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+").findall
_words = re.compile(r"[^\W_]+").findall


def tokens_of(text: str) -> int:
    """Estimate a text's length in tokens: one for three bytes of UTF-8, which is more than most texts have."""
    return -(-len(text.encode("utf-8", "replace")) // _CHARS_PER_TOKEN)


def words_of(text: str) -> list[str]:
    """Return the words of the first :data:`MAX_CHARS` characters in their order; of scripts without spaces, pairs."""
    found = []
    folded = normalize("NFKC", text[:MAX_CHARS]).casefold()
    for word in _words(folded) if folded.isascii() else _runs_of(folded):
        if len(word) > 2 and _is_unspaced(word):
            found += [first + second for first, second in pairwise(word)]
        elif not (word.isdigit() and len(word) > _LONGEST_NUMBER):
            found.append(word[:_LONGEST_WORD])
    return found


def _runs_of(text: str) -> Iterator[str]:
    """Yield the words of any script, cut where one without spaces begins or ends."""
    # A vowel of Hindi or Thai is a mark, which the regular expression takes for an end of the word.
    between = {ord(char): " " for char in set(text) if not (char.isalnum() or _is_vowel(char))}
    for word in text.translate(between).split():
        yield from _runs(word)


def _is_vowel(char: str) -> bool:
    return char < "\u2e80" and category(char) in {"Mn", "Mc"}  # the marks above it are of emoji


def sketch_of(words: Iterable[str]) -> frozenset[int]:
    """Return what stands for a set of words: the smallest 64 of their 32-bit digests, all of a small set."""
    digests = sorted({crc32(word.encode("utf-8", "replace")) for word in words})
    return frozenset(islice(digests, _SKETCH))


def resemblance(one: frozenset[int], other: frozenset[int]) -> float:
    """Return how much of two sets of words is common to both (Jaccard's index, 0 to 1), from their sketches.

    Exact for small sets; for larger ones the estimate from the smallest digests of the union (Broder 1997).
    """
    union = sorted(one | other)[:_SKETCH]
    return sum(digest in one and digest in other for digest in union) / len(union) if union else 0.0


def shingles_of(text: str) -> frozenset[str]:
    """Return a text's words and pairs of neighbouring words."""
    words = words_of(text)
    return frozenset(words).union(f"{first} {second}" for first, second in pairwise(words))


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Return how alike two texts are, from their shingles: twice the common ones over all (Dice's index, 0 to 1)."""
    total = len(one) + len(other)
    return 2 * len(one & other) / total if total else 0.0
