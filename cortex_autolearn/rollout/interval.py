"""How sure a gain is: an interval that holds at all times at once, for showing.

It is computed by inverting the bets of ``wealth``: a gain of ``delta`` is ruled out from below where betting on more
than that would have won 1/alpha, and likewise from above. As the bets are valid whenever one looks, so is the interval
(Waudby-Smith and Ramdas 2023, on the inverse-propensity-weighted difference). Decisions do not look at it.
"""

from __future__ import annotations

from math import log, log1p
from typing import TYPE_CHECKING, Final

from cortex_autolearn.rollout.wealth import UP, Range, log_mean_exp, shift

if TYPE_CHECKING:
    from collections.abc import Mapping

_HALVINGS: Final = 40
_NEARLY: Final = 1 - 1e-12
"""A gain of the whole range is M itself in the narrowest case."""


def interval(values: Mapping[tuple[float, bool, float], int], where: Range, alpha: float = 0.05) -> tuple[float, float]:
    """Return the least and the greatest gain that the outcomes do not rule out.

    Arguments:
        values: how many tasks there are of each (value, treated, probability); see ``Evidence.values``.
        where: the metric's range, and the `b` that was fixed before the first task.
        alpha: the chance that the true gain is ever outside.
    """
    bar = log(2 / alpha)
    low, high, b = where
    mirrored = Range(-high, -low, -b)
    turned = {(-value, treated, probability): count for (value, treated, probability), count in values.items()}
    return -_greatest(turned, mirrored, bar), _greatest(values, where, bar)


def _greatest(values: Mapping[tuple[float, bool, float], int], where: Range, bar: float) -> float:
    """Return the greatest gain that betting on less does not rule out."""
    widest = _NEARLY * (where.high - where.low)
    least, most = -widest, widest
    if _won(values, where, most) < bar:
        return most
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        if _won(values, where, middle) < bar:
            least = middle
        else:
            most = middle
    return most


def _won(values: Mapping[tuple[float, bool, float], int], where: Range, gain: float) -> float:
    """Return the logarithm of what was won by betting that the gain is less than ``gain``.

    Every factor is ``1 + g (gain - phi) / (M - gain)``, M the greatest that phi can be: positive, of mean at most 1
    where the gain is not less, and growing with ``gain``, so that there is one place where the bar is reached.
    """
    logs = [0.0] * len(UP)
    low, high, b = where
    for (value, treated, probability), count in values.items():
        largest = max((high - b) / probability, (b - low) / (1 - probability))
        away = (gain - shift(value, treated, probability, b)) / (largest - gain)
        for number, share in enumerate(UP):
            logs[number] += count * log1p(share * away)
    return log_mean_exp(logs)
