"""Texts that are nearly alike, found exactly and without comparing each with each.

Two texts are as near as their word triples: the number they share over the number of all (Jaccard). The search is the
*prefix filter* of set similarity joins (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007): order the
triples of a text from the rarest to the commonest; two texts of nearness ``t`` or more must share one among their first
``n - ceil(t n) + 1``. So only texts that share something rare are compared at all, and no pair is missed.

In a fleet that is decisive. Tasks made from one template share most of their words; MinHash with LSH gives each of them
every other as a candidate, and still misses a pair now and then. Here they meet only where their few own words meet.
Chance has no part in it: the same texts in the same order give the same answer.

Memory: about eight bytes for each rare triple of a text that was kept, and a table of counts. The triples themselves
stay wherever the caller keeps them.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from math import ceil, floor
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable


_WORD: Final = re.compile("[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff]|[^\\W_]+")
"""A run of letters and digits; of scripts that are written without blanks, each sign."""
_TOGETHER: Final = 3
_CODES_KEPT: Final = 50_000
_SMALLEST_TABLE: Final = 1 << 12
_LARGEST_TABLE: Final = 1 << 22
_SLACK: Final = 1e-9
"""Against the last bit of a product: 0.8 * 10 is not to become 9 when it is rounded up."""


def normalised(text: str) -> str:
    """Return a text as duplicates are told by it: compatibility forms, case and white space made one."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


class Words:
    """Turns normalised texts into their word triples, as sorted 64-bit numbers without repetition.

    A text of fewer than three words has one triple, made of all its words; one without any word has none, and is near
    to nothing. Two different triples get one number about once in 10^19.
    """

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def triples(self, text: str) -> array[int]:
        """Return the triples of a normalised text."""
        words = _WORD.findall(text)
        if not words:
            return array("q")
        codes = self._codes
        if len(codes) > _CODES_KEPT:
            codes.clear()
        numbers = []
        for word in words:
            code = codes.get(word)
            if code is None:
                data = word.encode()
                # CRC alone has 32 bits; the other half comes from the same bytes the other way round.
                code = codes[word] = crc32(data) << 32 | crc32(data[::-1], len(data))
            numbers.append(code)
        if len(numbers) < _TOGETHER:
            return array("q", [hash(tuple(numbers))])
        # Python salts the hashes of texts only; those of tuples of numbers are the same in every process.
        return array("q", sorted(set(map(hash, zip(numbers, numbers[1:], numbers[2:], strict=False)))))


class Rarity:
    """How often triples occur: roughly, in a table of fixed size. It only orders them, so no answer depends on it.

    Arguments:
        expected: how many triples will be counted, about; sets the size of the table.
    """

    def __init__(self, expected: int) -> None:
        size = _SMALLEST_TABLE
        while size < _LARGEST_TABLE and size < 2 * expected:
            size *= 2
        self.mask: Final = size - 1
        self.counts: Final = array("I", bytes(4 * size))

    def count(self, triples: array[int]) -> None:
        """Count the triples of one text."""
        counts, mask = self.counts, self.mask
        for triple in triples:
            counts[triple & mask] += 1


class Nearness:
    """Texts that were kept, and which of them a further one is near to.

    Arguments:
        threshold: from which nearness on two texts are near, above 0 and at most 1.
        rarity: has counted the triples of every text that will be kept or asked about.
        load: returns the triples of a text that was kept, by its key.
    """

    def __init__(self, threshold: float, rarity: Rarity, load: Callable[[int], array[int]]) -> None:
        self._threshold = threshold
        self._rarity = rarity
        self._load = load
        self._heads = array("i", [-1]) * (rarity.mask + 1)
        self._next = array("i")
        self._holder = array("i")
        self._keys = array("q")
        self._sizes = array("i")
        self._rests = array("i")
        """Of each text: how many of its triples come after its rare ones."""

    def near(self, triples: array[int]) -> int | None:
        """Return the key of the text that was kept first of those near to one; None when there is none."""
        size = len(triples)
        if not size:
            return None
        rare = self._rare(triples)
        candidates = self._candidates(rare, size, size - self._prefix(size))
        whole: set[int] | None = None
        for number in sorted(candidates):
            whole = set(triples) if whole is None else whole
            key = self._keys[number]
            other = self._load(key)
            shared = len(whole.intersection(other))
            if shared and shared + _SLACK >= self._threshold * (size + len(other) - shared):
                return key
        return None

    def keep(self, key: int, triples: array[int]) -> None:
        """Let texts that are asked about from now on be compared with this one."""
        size = len(triples)
        if not size:
            return
        number = len(self._keys)
        self._keys.append(key)
        self._sizes.append(size)
        self._rests.append(size - self._prefix(size))
        heads, following, holder, mask = self._heads, self._next, self._holder, self._rarity.mask
        for triple in self._rare(triples):
            place = triple & mask
            following.append(heads[place])
            heads[place] = len(holder)
            holder.append(number)

    def _prefix(self, size: int) -> int:
        return size - ceil(self._threshold * size - _SLACK) + 1

    def _rare(self, triples: array[int]) -> list[int]:
        """Return the rarest triples of a text, without those that no other text can have."""
        counts, mask = self._rarity.counts, self._rarity.mask
        ordered = sorted([(counts[triple & mask], triple) for triple in triples])
        return [triple for count, triple in ordered[: self._prefix(len(triples))] if count > 1]

    def _candidates(self, rare: list[int], size: int, rest: int) -> list[int]:
        """Return the texts that share enough rare triples with one to be possibly near."""
        heads, following, holder, mask = self._heads, self._next, self._holder, self._rarity.mask
        shared: dict[int, int] = {}
        for triple in rare:
            place = heads[triple & mask]
            while place >= 0:
                number = holder[place]
                shared[number] = shared.get(number, 0) + 1
                place = following[place]
        threshold, sizes, rests = self._threshold, self._sizes, self._rests
        least, most = ceil(threshold * size - _SLACK), floor(size / threshold + _SLACK)
        part = threshold / (1 + threshold)
        return [
            number
            for number, count in shared.items()
            if least <= sizes[number] <= most
            # What the rare ones do not show, the rest of one of the two texts can add at most.
            and count + max(rest, rests[number]) + _SLACK >= part * (size + sizes[number])
        ]
