"""MinHash signatures of texts that were kept, cut into bands, and which of them have several bands of a further one.

A signature is a row of numbers, each the same in two texts of nearness ``j`` with probability ``j``: MinHash (Broder
1997), computed by rensa, whose only door this is. Of ``BANDS`` bands of ``r`` numbers each is then common with
probability ``j**r``. Who has ``COMMON`` of them or more is a candidate; what it is near to in truth is ``nearness``'
business. The number ``r`` follows from the threshold: the largest with which a pair that is just near enough is missed
less than once in 10^8, and any nearer one less often still.

Memory: four bytes for each band of a text, and a table that is somewhat larger. A text's bands are numbered on from
those of the text before it, so that a link of a chain tells whose it is. Bands themselves are not kept: two that fall
on one place are taken for the same, which two texts would have to suffer ``COMMON`` times to become candidates.
"""

from __future__ import annotations

from array import array
from math import comb
from typing import Final

from rensa import RMinHash

BANDS: Final = 48
COMMON: Final = 3
METHOD: Final = f"minhash-1/rensa-{RMinHash.ALGORITHM_VERSION}"
"""Changes when the same texts get other candidates."""

_MISSED: Final = 1e-8
_MOST_ROWS: Final = 8
_SMALLEST_TABLE: Final = 1 << 12
_LONG: Final = (1 << 16) - 1
"""Chains are not counted beyond."""


class Bands:
    """Signatures of texts, numbered in the order in which they are kept.

    Arguments:
        threshold: from which nearness on two texts are near, above 0 and at most 1.
        expected: how many texts will be kept, about; no answer depends on it.
        seed: of the signatures; another one misses other pairs.
    """

    def __init__(self, threshold: float, expected: int, seed: int) -> None:
        self._rows = rows(threshold)
        self._seed = seed
        size = _SMALLEST_TABLE
        while size < BANDS * expected / 2:
            size *= 2
        self._mask = size - 1
        self._heads = array("i", [-1]) * size
        self._lengths = array("H", bytes(2 * size))
        self._next = array("i")

    def places(self, triples: array[int]) -> list[int]:
        """Return where the bands of a text belong; of one that has triples."""
        numbers = memoryview(triples).cast("B").cast("Q")
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            numbers, array("Q", [0, len(triples)]), BANDS * self._rows, self._seed
        )
        each, mask = iter(matrix.to_rows()[0]), self._mask
        # Hashes of tuples of numbers are the same in every process.
        return [hash(band) & mask for band in zip(*[each] * self._rows, strict=True)]

    def keep(self, places: list[int]) -> None:
        """Let texts that are asked about from now on be compared with this one."""
        heads, following, lengths = self._heads, self._next, self._lengths
        for link, place in enumerate(places, len(following)):
            following.append(heads[place])
            heads[place] = link
            if lengths[place] < _LONG:
                lengths[place] += 1

    def steps(self, places: list[int]) -> int:
        """Return how many steps it would take to tell who has enough bands of a text."""
        return sum(map(self._lengths.__getitem__, places))

    def alike(self, places: list[int]) -> list[int]:
        """Return the texts that have enough bands of one."""
        heads, following = self._heads, self._next
        common: dict[int, int] = {}
        for place in places:
            link = heads[place]
            while link >= 0:
                number = link // BANDS
                common[number] = common.get(number, 0) + 1
                link = following[link]
        return [number for number, count in common.items() if count >= COMMON]


def rows(threshold: float) -> int:
    """Return how many numbers make a band."""
    return next(number for number in range(_MOST_ROWS, 0, -1) if missed(threshold, number) <= _MISSED)


def missed(nearness: float, number: int) -> float:
    """Return the probability that two texts are no candidates of each other, with so many numbers in a band."""
    one: float = nearness**number
    return sum(comb(BANDS, count) * one**count * (1 - one) ** (BANDS - count) for count in range(COMMON))
