"""Texts that are nearly alike, found without comparing each with each.

Two texts are as near as their word triples: the number they share over the number of all (Jaccard). Whether two are
near is always counted, on their whole triples; who is compared at all is found in two ways:

1. ``bands``: MinHash signatures. Texts of their own words, or of stock sentences in any mixture, have few candidates. A
   pair at the threshold is missed once in 10^8, a nearer one less often.
2. ``rare``: where signatures name too many, as among tasks of one template, which share most of their words with every
   other, the texts that share something rare. Misses nothing.

Bands are given up after a few steps, and for the rest steps are counted: each text brings more than most texts need,
what is left over is saved up for the others, and there are no more. So the work grows with the number of texts and no
faster, whatever they are. A text for which the steps do not last is ``CROWDED``: among thousands so like it, with so
little of its own, that nobody can say in time whether it is near to one of them. Who keeps it out has no near pair.

Memory: 200 bytes for each text that was kept for the bands, about 80 where rare triples are needed, and two tables. The
triples themselves stay wherever the caller keeps them. The same texts in the same order give the same answer, in every
process and on every machine.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from typing import TYPE_CHECKING, Final
from zlib import crc32

from cortex_autolearn.training.rare import SLACK, Rare, Rarity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CROWDED: Final = -1
"""Instead of a key: it could not be told in time whether a text is near to one that was kept."""


_WORD: Final = re.compile("[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff]|[^\\W_]+")
"""A run of letters and digits; of scripts that are written without blanks, each sign."""
_LONGEST_RUN: Final = 1_000
_LONG_RUN: Final = re.compile(rf"(?<![^\x00-\x7f])[^\x00-\x7f]{{{_LONGEST_RUN + 1}}}")
_PIECE: Final = re.compile(rf"[\x00-\x7f]*+[^\x00-\x7f]{{0,{_LONGEST_RUN}}}+")
_TOGETHER: Final = 3
_CODES_KEPT: Final = 50_000
_FEW_STEPS: Final = 160
_FEW: Final = 24
"""With more steps or more candidates than that, bands are no help."""
_SAVED: Final = 400
"""The steps of so many texts can be saved up, and are there from the beginning."""


def normalised(text: str) -> str:
    """Return a text as duplicates are told by it: compatibility forms, case and white space made one."""
    return " ".join(_composed(_composed(text).casefold()).split())


def _composed(text: str) -> str:
    """Return a text in its compatibility form, in a time that grows with its length and no faster.

    Marks that stand on one letter are put in their order by exchanging neighbours, and nothing else gets its turn
    meanwhile: of a text of nothing but marks it is done piece by piece. No mark crosses an ASCII character.
    """
    if _LONG_RUN.search(text) is None:
        return unicodedata.normalize("NFKC", text)
    return "".join(unicodedata.normalize("NFKC", piece) for piece in _PIECE.findall(text))


def method() -> str:
    """Return what names this way to find near texts: when it changes, so may what is found, if by a hair."""
    from cortex_autolearn.training.bands import METHOD  # noqa: PLC0415 - the one door to rensa

    return METHOD


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


class Sketch:
    """A text as it is compared: its triples, where the bands of its signature belong, and what is rare if known."""

    __slots__ = ("places", "rare", "triples")

    def __init__(self, triples: array[int], places: list[int]) -> None:
        self.triples = triples
        self.places = places
        self.rare: list[tuple[int, int]] | None = None


class Nearness:
    """Texts that were kept, and which of them a further one is near to.

    Arguments:
        threshold: from which nearness on two texts are near, above 0 and at most 1.
        rarity: has counted the triples of every text that will be kept or asked about.
        load: returns the triples of a text that was kept, by its key.
        expected: how many texts will be kept, about; no answer depends on it.
        seed: of the signatures; another one misses other pairs.
        patience: how many steps each text brings, of 0.1 µs or so; with ``inf`` none is ever ``CROWDED``.
    """

    def __init__(  # noqa: PLR0913 - how texts are compared, each by its name
        self,
        threshold: float,
        rarity: Rarity,
        load: Callable[[int], array[int]],
        *,
        expected: int,
        seed: int = 1,
        patience: float = 5_000,
    ) -> None:
        from cortex_autolearn.training.bands import Bands  # noqa: PLC0415 - the one door to rensa

        self._threshold = threshold
        self._rarity = rarity
        self._load = load
        self._patience = patience
        self._credit = _SAVED * patience
        self._bands = Bands(threshold, expected, seed)
        self._rare: Rare | None = None
        self._keys = array("q")
        self._sizes = array("i")

    def sketch(self, triples: array[int]) -> Sketch:
        """Return a text as it is compared."""
        return Sketch(triples, self._bands.places(triples) if triples else [])

    def keep(self, key: int, sketch: Sketch) -> None:
        """Let texts that are asked about from now on be compared with this one."""
        if not sketch.triples:
            return
        self._keys.append(key)
        self._sizes.append(len(sketch.triples))
        self._bands.keep(sketch.places)
        if self._rare is not None:
            self._rare.keep(len(sketch.triples), sketch.rare or self._rare.of(sketch.triples))

    def near(self, sketch: Sketch) -> int | None:
        """Return the key of the text that was kept first of those near to one.

        None when there is none, and ``CROWDED`` when that cannot be told in time.
        """
        whole = set(sketch.triples)
        if not whole:
            return None
        self._credit = min(self._credit, _SAVED * self._patience) + self._patience
        numbers = self._candidates(sketch)
        if numbers and len(numbers) * len(whole) > self._credit:
            return CROWDED
        for number in sorted(numbers):
            self._credit -= len(whole)
            key = self._keys[number]
            other = self._load(key)
            shared = len(whole.intersection(other))
            if shared + SLACK >= self._threshold * (len(whole) + len(other) - shared):
                return key
        return None

    def _candidates(self, sketch: Sketch) -> Sequence[int]:
        """Return who may be near: by bands, or by rare triples where bands name many and those fewer, or all."""
        steps, by_bands = self._bands.steps(sketch.places), None
        if steps <= _FEW_STEPS:
            by_bands = self._fitting(sketch, self._bands.alike(sketch.places))
            if len(by_bands) <= _FEW:
                return by_bands
        rare = self._with_rare()
        sketch.rare = rare.of(sketch.triples)
        patience = self._credit if by_bands else min(steps, self._credit)
        found, took = rare.alike(len(sketch.triples), sketch.rare, patience)
        self._credit -= took
        by_rare = None if found is None else self._fitting(sketch, found)
        if by_bands is None and by_rare is None and steps <= self._credit:
            self._credit -= steps
            by_bands = self._fitting(sketch, self._bands.alike(sketch.places))
        named = [numbers for numbers in (by_bands, by_rare) if numbers is not None]
        return min(named, key=len, default=range(len(self._keys)))

    def _fitting(self, sketch: Sketch, numbers: list[int]) -> list[int]:
        """Leave out candidates too short or too long to be near."""
        size, sizes = len(sketch.triples), self._sizes
        least, most = self._threshold * size - SLACK, size / self._threshold + SLACK
        return [number for number in numbers if least <= sizes[number] <= most]

    def _with_rare(self) -> Rare:
        """Return the rare triples of all that was kept, gathered when they are first needed: often they never are."""
        if self._rare is None:
            self._rare = Rare(self._threshold, self._rarity)
            for triples in map(self._load, self._keys):
                self._rare.keep(len(triples), self._rare.of(triples))
        return self._rare
