"""How far two raters agree who scored the same tasks from 1 to 5.

Pure arithmetic over pairs: whose scores these are is the caller's to know.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

ENOUGH: Final = 30
"""Pairs that it takes to say anything."""

_LOW: Final = 1
_HIGH: Final = 5
_STEPS: Final = 2
"""Scores come in halves."""


class Agreement(NamedTuple):
    """What pairs of scores tell.

    ``difference`` is the mean of first minus second. ``spearman`` and ``kappa`` are None where they say nothing,
    because one of the two gave the same score to all. ``confusion[i][j]`` counts the pairs whose first score rounds to
    ``i + 1`` and the second to ``j + 1``.
    """

    pairs: int
    difference: float
    spearman: float | None
    kappa: float | None
    confusion: tuple[tuple[int, ...], ...]


def agreement(pairs: Sequence[tuple[float, float]]) -> Agreement | None:
    """Return how far the raters agree; None for fewer than :data:`ENOUGH` pairs."""
    if len(pairs) < ENOUGH:
        return None
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    difference = math.fsum(one - other for one, other in pairs) / len(pairs)
    return Agreement(len(pairs), difference, spearman(first, second), weighted_kappa(pairs), confusion(pairs))


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, with ties: Pearson's correlation of the mid-ranks.

    C. Spearman, "The proof and measurement of association between two things", American Journal of Psychology 15
    (1904); mid-ranks for ties as in M. G. Kendall, "Rank Correlation Methods" (1948), chapter 3.
    """
    return _pearson(_midranks(first), _midranks(second))


def weighted_kappa(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Cohen's kappa with quadratic weights, of scores rounded to halves.

    One minus the ratio of the observed to the expected mean squared difference; J. Cohen, "Weighted kappa",
    Psychological Bulletin 70 (1968). The expected one is over all pairs of a first and a second score, independent of
    each other.
    """
    first, second = [_half(one) for one, _ in pairs], [_half(other) for _, other in pairs]
    count = len(pairs)
    observed = sum((one - other) ** 2 for one, other in zip(first, second, strict=True)) / count
    # The mean of (x - y)² over all x and y is what their means and variances say.
    mean_first, mean_second = sum(first) / count, sum(second) / count
    squares = sum(one * one for one in first) / count + sum(other * other for other in second) / count
    expected = squares - 2 * mean_first * mean_second
    return None if expected <= 0 else 1 - observed / expected


def confusion(pairs: Sequence[tuple[float, float]]) -> tuple[tuple[int, ...], ...]:
    """Return how often a first score met a second one, both rounded to whole marks (a half upwards)."""
    size = _HIGH - _LOW + 1
    table = [[0] * size for _ in range(size)]
    for one, other in pairs:
        table[_whole(one) - _LOW][_whole(other) - _LOW] += 1
    return tuple(tuple(row) for row in table)


def _midranks(values: Sequence[float]) -> list[float]:
    """Return each value's rank; equal ones share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] != values[order[start]]:
            for index in order[start:end]:
                ranks[index] = (start + 1 + end) / 2
            start = end
    return ranks


def _pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    count = len(first)
    mean_first, mean_second = math.fsum(first) / count, math.fsum(second) / count
    spread_first = math.fsum((one - mean_first) ** 2 for one in first)
    spread_second = math.fsum((other - mean_second) ** 2 for other in second)
    if spread_first == 0 or spread_second == 0:
        return None
    shared = math.fsum((one - mean_first) * (other - mean_second) for one, other in zip(first, second, strict=True))
    return max(-1.0, min(1.0, shared / math.sqrt(spread_first * spread_second)))


def _half(score: float) -> float:
    return math.floor(score * _STEPS + 0.5) / _STEPS


def _whole(score: float) -> int:
    return min(_HIGH, max(_LOW, math.floor(score + 0.5)))
