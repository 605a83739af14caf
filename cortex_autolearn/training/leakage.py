"""Looks once more whether a training split gives its validation split away; believes nothing that was decided before.

Works on the lines as they are to be written, with signatures of another seed, and compares as many texts as it takes.
``dataset`` has taken out what leaks; what this finds is a mistake, and the dataset is refused.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from cortex_autolearn.training.nearness import Nearness, Words, normalised
from cortex_autolearn.training.rare import Rarity

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Iterator


class Shelf(Protocol):
    """Keeps triples outside of memory."""

    def put(self, triples: array[int]) -> int:
        """Keep triples and return their key."""

    def get(self, key: int) -> array[int]:
        """Return what was kept under a key."""


class _Message(msgspec.Struct, gc=False):
    content: str


class _Line(msgspec.Struct, gc=False):
    messages: tuple[_Message, _Message]


_SEED: Final = 2
"""Of the signatures: what those of ``dataset`` happened to miss, these find."""

_decode: Final = msgspec.json.Decoder(_Line).decode


def leaks(
    train: Callable[[], Iterable[bytes]],
    validation: Callable[[], Iterable[bytes]],
    threshold: float,
    shelf: Shelf,
    expected: int = 0,
) -> Iterator[int]:
    """Yield the numbers of training lines whose input is that of a validation line, or near to one.

    Arguments:
        train: returns the lines of the training split, each time from the first.
        validation: likewise.
        threshold: from which nearness on two inputs are near.
        shelf: holds what is compared.
        expected: how many triples there are, about; no answer depends on it.
    """
    words = Words()
    rarity = Rarity(expected)
    count = 0
    for line in validation():
        rarity.count(words.triples(_input(line)))
        count += 1
    for line in train():
        rarity.count(words.triples(_input(line)))
    same: set[str] = set()
    near = Nearness(threshold, rarity, shelf.get, expected=count, seed=_SEED, patience=inf)
    for line in validation():
        text = _input(line)
        triples = words.triples(text)
        # A text without words is near to nothing: it is told by itself.
        if triples:
            near.keep(shelf.put(triples), near.sketch(triples))
        else:
            same.add(text)
    for number, line in enumerate(train()):
        text = _input(line)
        if near.near(near.sketch(words.triples(text))) is not None or text in same:
            yield number


def _input(line: bytes) -> str:
    return normalised(_decode(line).messages[0].content)
