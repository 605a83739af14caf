"""The breaker: so many failures in a row that no model as good as the champion would show them.

It fires at k failures in a row, k = max(5, the smallest k whose chance of occurring anywhere in 2,000 tasks is at most
0.005) at the champion's own failure rate: 6, 8 and 14 at 10, 20 and 40 % (DECISION, "Rollback").
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

TASKS: Final = 2_000


def fires(in_a_row: int, failure_rate: float, *, at_least: int, chance: float) -> bool:
    """Tell whether as many failures in a row are too many.

    Arguments:
        in_a_row: failures since the last success.
        failure_rate: how often the champion fails, as a share of 1.
        at_least: fewer are never too many.
        chance: the greatest chance, for the champion in 2,000 tasks, of what still counts as too many.
    """
    if in_a_row < at_least:
        return False
    once = failure_rate**in_a_row
    # By the union over where a run may begin; mostly that settles it.
    if once * (1 + (TASKS - in_a_row) * (1 - failure_rate)) <= chance:
        return True
    return chance_of_run(in_a_row, failure_rate) <= chance


@lru_cache(maxsize=4_096)
def chance_of_run(length: int, failure_rate: float, tasks: int = TASKS) -> float:
    """Return the chance of at least one run of ``length`` failures in ``tasks`` tasks.

    The chance of none follows from that for fewer tasks: the first run ends with task n only if it began behind a
    success and there was none before (Feller, "An Introduction to Probability Theory", volume 1, chapter XIII.7).
    """
    if length > tasks:
        return 0.0
    first = failure_rate**length
    step = (1 - failure_rate) * first
    none = [1.0] * length + [1 - first]
    for n in range(length + 1, tasks + 1):
        none.append(none[n - 1] - step * none[n - length - 1])
    return 1 - none[tasks]


def threshold(failure_rate: float, *, at_least: int, chance: float) -> int:
    """Return k: how many failures in a row the breaker fires at; beyond 2,000 it never does."""
    low, high = at_least, TASKS + 1
    while low < high:
        middle = (low + high) // 2
        if fires(middle, failure_rate, at_least=at_least, chance=chance):
            high = middle
        else:
            low = middle + 1
    return low
