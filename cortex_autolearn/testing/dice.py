"""Seeded chance that falls alike on every Python: the one source of randomness of the simulated fleet.

The standard library promises a stable sequence for ``Random.random()`` with an integer seed and for nothing else, so
everything here is made from that.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of chance named by ``key``: one key, one sequence; streams of different keys are independent."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        seed = int.from_bytes(digest[:8], "big")
        self._random = random.Random(seed).random  # noqa: S311 - to be repeated, not to be secret

    def chance(self, share: float) -> bool:
        """Tell whether something happens that happens in ``share`` (0..1) of all cases."""
        return self._random() < share

    def between(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """Return one of ``options``, all alike likely."""
        return options[int(self._random() * len(options))]

    def weighted(self, options: Sequence[tuple[T, float]]) -> T:
        """Return one of ``options``, pairs of a value and its weight."""
        mark = self._random() * sum(weight for _, weight in options)
        for value, weight in options:
            mark -= weight
            if mark < 0:
                return value
        return options[-1][0]

    def lognormal(self, median: float, sigma: float) -> float:
        """Return a log-normal value; the normal deviate under it is Box and Muller's."""
        radius = math.sqrt(-2 * math.log(1 - self._random()))
        return median * math.exp(sigma * radius * math.cos(2 * math.pi * self._random()))

    def digits(self, length: int) -> str:
        """Return ``length`` (up to 12) hexadecimal digits."""
        return f"{int(self._random() * 16**length):0{length}x}"
