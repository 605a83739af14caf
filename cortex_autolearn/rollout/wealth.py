"""Bets on the difference of two variants: the wealth of whoever bets that one is better.

If it is not, nobody can win such bets: the wealth is a supermartingale that starts at 1, and the chance that it ever
reaches 1/alpha is at most alpha (Ville's inequality), however often one looks. The bets are those of Waudby-Smith and
Ramdas, "Estimating means of bounded random variables by betting" (2023), on an inverse-propensity-weighted difference;
DECISION, "Evidence, per metric".

A bet's outcome depends on its own task alone, so the logarithm of the wealth is a sum over tasks. It is kept in whole
multiples of 2^-60: such sums are exact, do not depend on the order, and a term can be taken out again.
"""

from __future__ import annotations

from math import exp, lgamma, log, log1p
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

UP: Final = (1 / 6, 1 / 3, 2 / 3, 0.95)
"""Shares of the largest bet, for evidence that the model on trial is better."""
DOWN: Final = (1 / 24, 1 / 12, 1 / 6, 1 / 3, 2 / 3, 0.95)
"""The same for evidence that it is worse: small losses matter, too."""
UNIT: Final = 1 << 60
PRIOR_TASKS: Final = 100.0
_MAX_REMEMBERED: Final = 4_096


class Range(NamedTuple):
    """Where a metric lies: its bounds, and `b`, a value inside that was fixed before the first bet."""

    low: float
    high: float
    b: float


def shift(value: float, treated: bool, probability: float, b: float) -> float:  # noqa: FBT001 - a formula's G
    """Return ``phi = (y - b)(G - pi) / (pi (1 - pi))``; its mean is the difference of the variants' means."""
    return (value - b) / probability if treated else (b - value) / (1 - probability)


def stakes(grid: Sequence[float], where: Range, probability: float, *, up: bool) -> list[float]:
    """Return ``lam_k = g_k / max(…)``: the bets, of which the largest just cannot lose everything."""
    low, high, b = where
    if up:
        largest = max((b - low) / probability, (high - b) / (1 - probability))
    else:
        largest = max((high - b) / probability, (b - low) / (1 - probability))
    return [share / largest for share in grid]


class Wealth:
    """The wealth of bets on one metric in one direction, ``E_up`` or ``E_down``.

    Arguments:
        where: the metric's range.
        up: whether the bets are on the model on trial being better, or on its being worse.
    """

    __slots__ = ("_grid", "_log", "_terms", "_totals", "_up", "_where")

    def __init__(self, where: Range, *, up: bool) -> None:
        assert where.low < where.b < where.high
        self._where = where
        self._up = up
        self._grid = UP if up else DOWN
        self._totals = [0] * len(self._grid)
        self._terms: dict[tuple[float, bool, float], list[int]] = {}
        self._log: float | None = None

    def put(self, value: float, treated: bool, probability: float, sign: int = 1) -> None:  # noqa: FBT001 - hot
        """Count a task's value in, or with ``sign`` -1 out again."""
        key = (value, treated, probability)
        terms = self._terms.get(key)
        if terms is None:
            terms = self._work_out(value, treated, probability)
            if len(self._terms) >= _MAX_REMEMBERED:
                self._terms.clear()
            self._terms[key] = terms
        self._totals = [total + sign * term for total, term in zip(self._totals, terms, strict=True)]
        self._log = None

    @property
    def log(self) -> float:
        """Its natural logarithm: ``mean_k prod_i (1 ± lam_ik phi_i)`` over the shares k and the tasks i."""
        if self._log is None:
            self._log = log_mean_exp([total / UNIT for total in self._totals])
        return self._log

    def _work_out(self, value: float, treated: bool, probability: float) -> list[int]:  # noqa: FBT001 - as above
        assert self._where.low <= value <= self._where.high
        phi = shift(value, treated, probability, self._where.b)
        if not self._up:
            phi = -phi
        bets = stakes(self._grid, self._where, probability, up=self._up)
        return [round(log1p(bet * phi) * UNIT) for bet in bets]


def log_mean_exp(logs: Sequence[float]) -> float:
    """Return the logarithm of the mean of what these are the logarithms of, without overflow."""
    top = max(logs)
    return top + log(sum([exp(one - top) for one in logs]) / len(logs))


class Split:
    """Evidence that tasks are not split between the variants as they should be.

    A beta-binomial e-process: the probability of the counts under a beta prior with the weight of 100 tasks around the
    declared probability, over their probability under that itself (a Bayes factor, hence a martingale from 1 under the
    declared split; Lindon and Malek, "Anytime-valid inference for multinomial count data", 2022). Tasks assigned with
    different probabilities are different streams, whose evidence multiplies.
    """

    __slots__ = ("_counts", "_log")

    def __init__(self) -> None:
        self._counts: dict[float, list[int]] = {}
        self._log: float | None = None

    def put(self, treated: bool, probability: float) -> None:  # noqa: FBT001 - as in Wealth
        """Count a task in."""
        counts = self._counts.get(probability)
        if counts is None:
            counts = self._counts[probability] = [0, 0]
        counts[treated] += 1
        self._log = None

    @property
    def log(self) -> float:
        """The natural logarithm of the evidence."""
        if self._log is None:
            self._log = sum(log_split(one[0], one[1], probability) for probability, one in sorted(self._counts.items()))
        return self._log

    @property
    def counts(self) -> tuple[int, int]:
        """Tasks of the other model, and of the model on trial."""
        return sum(one[0] for one in self._counts.values()), sum(one[1] for one in self._counts.values())


def log_split(control: int, treated: int, probability: float) -> float:
    """Return the logarithm of the beta-binomial evidence of two counts; see :class:`Split`."""
    a, b = PRIOR_TASKS * probability, PRIOR_TASKS * (1 - probability)
    seen = _log_beta(a + treated, b + control) - _log_beta(a, b)
    return seen - treated * log(probability) - control * log1p(-probability)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
