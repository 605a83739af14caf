"""Which texts that were kept share something rare with a further one: exact, and quick where texts have much in common.

The *prefix filter* of set similarity joins (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007): order the
triples of a text from the rarest to the commonest. Two texts that are near miss so few of each other's triples that
they meet among the first ones of both: who has none of the first ``i`` of a text of ``n`` shares ``n - i`` at most. How
many they must share depends on both sizes, so every triple is filed with the size of its text, and looked up only under
those sizes that could be near although nothing rarer was common. Tasks of one template with values of their own thus
meet nowhere: what they have in common comes behind the point up to which anybody looks.

Memory: about eight bytes for each rare triple of a text, and a table of counts. Chance has no part in it.
"""

from __future__ import annotations

from array import array
from math import ceil, floor
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SLACK: Final = 1e-9
"""Against the last bit of a product: 0.8 * 10 is not to become 9 when it is rounded up."""

_SMALLEST_TABLE: Final = 1 << 12
_LARGEST_TABLE: Final = 1 << 22
_CHEAP: Final = 2_000
"""How often a triple may occur that is only looked up to rule candidates out."""
_DIGITS: Final = 6
"""Sizes are told apart by so many binary digits: exactly below 64, then to 3 % or better."""
_SPREAD: Final = 0x9E3779B1
"""Odd and without pattern, so that sizes of one triple fall on places far apart."""


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

    def rarest(self, triples: array[int], many: int) -> list[tuple[int, int]]:
        """Return the rarest triples of a text with their counts, the rarest first, and of equals in their own order."""
        counts, mask = self.counts, self.mask
        often = [counts[triple & mask] for triple in triples]
        order = sorted(range(len(often)), key=often.__getitem__)
        return [(often[place], triples[place]) for place in order[:many]]


class Rare:
    """Rare triples of texts, numbered in the order in which they are kept.

    Arguments:
        threshold: from which nearness on two texts are near, above 0 and at most 1.
        rarity: has counted the triples of every text that will be kept or asked about.
    """

    def __init__(self, threshold: float, rarity: Rarity) -> None:
        self._threshold = threshold
        self._rarity = rarity
        self._mask = rarity.mask >> 2  # few triples are rare
        self._heads = array("i", [-1]) * (self._mask + 1)
        self._next = array("i")
        self._holder = array("i")
        self._sizes = array("i")

    def of(self, triples: array[int]) -> list[tuple[int, int]]:
        """Return the triples of a text among which it meets every one that it is near to, with their counts."""
        return self._rarity.rarest(triples, self._prefix(len(triples)))

    def keep(self, size: int, rare: list[tuple[int, int]]) -> None:
        """Let texts that are asked about from now on be compared with one of a size and of these rare triples."""
        number = len(self._sizes)
        self._sizes.append(size)
        mask = self._mask
        filed = _SPREAD * _rounded(size)
        for count, triple in rare:
            if count > 1:  # else no other text can have it
                place = (triple + filed) & mask
                self._next.append(self._heads[place])
                self._heads[place] = len(self._holder)
                self._holder.append(number)

    def alike(self, size: int, rare: list[tuple[int, int]], patience: float) -> tuple[list[int] | None, int]:
        """Return the texts that share enough with one to be possibly near, and how many steps it took to tell.

        None instead of the texts when there is not patience enough.
        """
        rounded = list(_sizes(ceil(self._threshold * size - SLACK), floor(size / self._threshold + SLACK)))
        shared, steps = self._meeting(rare, size, rounded, patience)
        if steps > patience:
            return None, steps
        found: list[int] = []
        # Those of other sizes are here because their triples share a place with what was looked up.
        for each in {_rounded(self._sizes[number]) for number in shared}.intersection(rounded):
            looked = self._looked(rare, size, each)
            steps += self._count_on(rare[size - self._least(size + each) + 1 : looked], each, shared)
            found += self._possible(shared, size, size - looked, each)
        return found, steps

    def _meeting(
        self, rare: list[tuple[int, int]], size: int, rounded: list[int], patience: float
    ) -> tuple[dict[int, int], int]:
        """Return who meets a text early enough to be near, with how many triples; and the steps it took."""
        heads, following, holder, mask = self._heads, self._next, self._holder, self._mask
        leasts = [self._least(size + each) for each in rounded]
        places = [_SPREAD * each for each in rounded]
        shared: dict[int, int] = {}
        steps = 0
        for looked, (count, triple) in enumerate(rare):
            while leasts and leasts[-1] > size - looked:  # the larger ones would have to share more than is left
                del leasts[-1], places[-1]
            if count > 1:
                for place in places:
                    link = heads[(triple + place) & mask]
                    while link >= 0 and steps <= patience:
                        steps += 1
                        shared[holder[link]] = shared.get(holder[link], 0) + 1
                        link = following[link]
        return shared, steps

    def _count_on(self, late: list[tuple[int, int]], rounded: int, shared: dict[int, int]) -> int:
        """Count triples too late for others of those who met a text, and return the steps it took."""
        heads, following, holder, mask = self._heads, self._next, self._holder, self._mask
        steps = 0
        for _, triple in late:
            link = heads[(triple + _SPREAD * rounded) & mask]
            while link >= 0:
                steps += 1
                if holder[link] in shared:
                    shared[holder[link]] += 1
                link = following[link]
        return steps

    def _possible(self, shared: dict[int, int], size: int, unseen: int, rounded: int) -> Iterator[int]:
        """Yield who of about a size shares enough, with all that was not looked at in the one or filed of the other."""
        for number, count in shared.items():
            other = self._sizes[number]
            if _rounded(other) == rounded:
                most = count + max(unseen, other - self._prefix(other))
                if most >= self._least(size + other):
                    yield number

    def _looked(self, rare: list[tuple[int, int]], size: int, rounded: int) -> int:
        """Return how many triples are looked up for texts of about a size: those that must be, and the cheap ones."""
        looked = size - self._least(size + rounded) + 1
        while looked < len(rare) and rare[looked][0] <= _CHEAP:
            looked += 1
        return looked

    def _least(self, sizes: int) -> int:
        """Return how many triples two texts share at least if they are near, by the sum of their sizes."""
        return ceil(self._threshold / (1 + self._threshold) * sizes - SLACK)

    def _prefix(self, size: int) -> int:
        """Return how many rare triples a text has."""
        return size - ceil(self._threshold * size - SLACK) + 1


def _rounded(size: int) -> int:
    """Return a size with its last binary digits cleared."""
    cleared = max(0, size.bit_length() - _DIGITS)
    return size >> cleared << cleared


def _sizes(least: int, most: int) -> Iterator[int]:
    """Yield the rounded sizes from one size to another."""
    rounded = _rounded(least)
    while rounded <= most:
        yield rounded
        rounded += 1 << max(0, rounded.bit_length() - _DIGITS)
