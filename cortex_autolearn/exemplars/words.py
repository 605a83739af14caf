"""Texts as words: what two texts have in common, and about how long one is. Rules only.

Words are folded so that case, width and accents written in two ways do not matter. Long numbers are left out: in a
fleet's tasks they are serial numbers and identifiers, which are rare, and would look like the best of matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice, pairwise
from typing import Final
from unicodedata import normalize
from zlib import crc32

MAX_CHARS: Final = 6_000
"""Of a longer text only the beginning is compared."""

_SKETCH: Final = 64
_CHARS_PER_TOKEN: Final = 3
_LONGEST_WORD: Final = 40
_LONGEST_NUMBER: Final = 3
_FIRST_UNSPACED: Final = "\u2e80"
_words = re.compile(r"[^\W_]+").findall


def tokens_of(text: str) -> int:
    """Estimate a text's length in tokens: one for three bytes of UTF-8, which is more than most texts have."""
    return -(-len(text.encode("utf-8", "replace")) // _CHARS_PER_TOKEN)


def words_of(text: str) -> list[str]:
    """Return the words of the first :data:`MAX_CHARS` characters in their order; of scripts without spaces, pairs."""
    found = []
    for word in _words(normalize("NFKC", text[:MAX_CHARS]).casefold()):
        if word[0] >= _FIRST_UNSPACED and len(word) > 2:
            found += [first + second for first, second in pairwise(word)]
        elif not (word.isdigit() and len(word) > _LONGEST_NUMBER):
            found.append(word[:_LONGEST_WORD])
    return found


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
