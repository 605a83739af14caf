"""What the decision must show, row by row: worlds, measures and bars. Used by the tests (few runs) and the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from cortex_autolearn.rollout.simulate import Ending, percentile

Measure = Callable[[Sequence[Ending]], float]


class Target(NamedTuple):
    """A row: worlds of which the worst counts, how runs become a number, its bar, and the reference's number.

    ``few`` is how many runs the test suite takes.
    """

    what: str
    worlds: tuple[str, ...]
    measure: Measure
    at_most: float | None
    at_least: float | None
    reference: str
    few: int

    def worst(self, values: Sequence[float]) -> float:
        """Return the value farthest on the wrong side."""
        return max(values) if self.at_most is not None else min(values)

    def is_met(self, value: float) -> bool:
        """Tell whether a value is within the bar."""
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    @property
    def bar(self) -> str:
        """The bar in words."""
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"


def share(decision: str, rule: str | None = None) -> Measure:
    """Return the share of runs, in percent, that end so (for that reason, if one is given)."""

    def measure(endings: Sequence[Ending]) -> float:
        met = sum(one.decision == decision and (rule is None or rule in one.rules) for one in endings)
        return 100 * met / len(endings)

    return measure


def stopped(percent: float, *decisions: str) -> Measure:
    """Return by which task so many percent of the runs were stopped; runs that were not count as never."""

    def measure(endings: Sequence[Ending]) -> float:
        return percentile(
            sorted(one.challenger_tasks if one.decision in decisions else 10**9 for one in endings), percent
        )

    return measure


def promoted_by(tasks: int) -> Measure:
    """Return the share of runs, in percent, that were promoted by so many challenger tasks."""

    def measure(endings: Sequence[Ending]) -> float:
        return 100 * sum(one.decision == "promote" and one.challenger_tasks <= tasks for one in endings) / len(endings)

    return measure


def held(endings: Sequence[Ending]) -> float:
    """Return the share of runs, in percent, in which the alarm about scores rang."""
    return 100 * sum("scored" in one.rules for one in endings) / len(endings)


def _no_more(what: str, worlds: str, measure: Measure, bar: float, reference: str, few: int = 400) -> Target:
    return Target(what, tuple(worlds.split()), measure, bar, None, reference, few)


def _no_less(what: str, worlds: str, measure: Measure, bar: float, reference: str, few: int = 400) -> Target:
    return Target(what, tuple(worlds.split()), measure, None, bar, reference, few)


_EQUAL = "equal-80 equal-92.5 equal-97 only-quality-80 only-quality-92.5 only-quality-97"
_UNRETIRED = "unretired-80 unretired-92.5 unretired-97"
_HANGING = "both-hang-1 both-hang-2 both-hang-5"
_WAITING = "both-hang-1-waiting both-hang-2-waiting both-hang-5-waiting"
_GOOD, _WIDE = "better-5.7-0.3", "better-5.7-0.3-sd-1"

TARGETS = (
    _no_more("false promotion, equal or only quality better, worst", _EQUAL, share("promote"), 1, "0.38", 300),
    _no_more("false promotion, slightly worse", "slightly-worse", share("promote"), 0.1, "0"),
    _no_more(
        "false rollback, equal, futility off, all rules, worst", _UNRETIRED, share("rollback"), 5, "2.4 to 3.5", 80
    ),
    _no_more("broken: rolled back, p99 tasks", "broken", stopped(99, "rollback"), 10, "5"),
    _no_more("20 points and 0.5 worse: rolled back, p99 tasks", "worse-20-0.5", stopped(99, "rollback"), 100, "62"),
    _no_more("20 points worse: rolled back, p99 tasks", "worse-20", stopped(99, "rollback"), 130, "102"),
    _no_more("5 points, 0.3 worse: stopped, p99 tasks", "worse-5-0.3", stopped(99, "rollback", "retire"), 200, "100"),
    _no_more("the same before windows close", "worse-5-0.3-waiting", stopped(99, "rollback", "retire"), 250, "218"),
    _no_more("hangs on 10 %: promoted", "hangs-10 hangs-10-waiting", share("promote"), 0, "0"),
    _no_more("hangs where the champion fails: promoted", "hides-failures", share("promote"), 1, "not known"),
    _no_less("hangs on 10 %: rolled back", "hangs-10 hangs-10-waiting", share("rollback"), 99, "> 99"),
    _no_more(
        "hangs on 10 %: rolled back, median tasks", "hangs-10 hangs-10-waiting", stopped(50, "rollback"), 200, "128"
    ),
    _no_more("both hang on 1, 2, 5 %: false rollback, worst", _HANGING, share("rollback"), 5, "3.0 to 3.6", 80),
    _no_more("the same where completion waits for windows", _WAITING, share("rollback"), 5, "not known", 100),
    _no_more("outage of 100 tasks: rolled back", "outage", share("rollback"), 10, "6.8", 80),
    _no_more(
        "scored at 90 and 50 %: rolled back by quality", "scored-90-50", share("rollback", "quality"), 0.5, "0.1", 80
    ),
    _no_more("failures carry no score: held", "unretired-92.5", held, 0, "0", 80),
    _no_more(
        "no history, 60 and 80 %: false rollback, worst", "no-history-60 no-history-80", share("rollback"), 5, "3.5", 80
    ),
    _no_less("power by 300 tasks", _GOOD, promoted_by(300), 80, "88", 1000),
    _no_less("power by 500 tasks", _GOOD, promoted_by(500), 90, "95", 1000),
    _no_less("power by 1,000 tasks", _GOOD, promoted_by(1000), 97, "98", 1000),
    _no_less("power by 300 tasks, sd 1.0", _WIDE, promoted_by(300), 80, "86", 1000),
    _no_less("power by 500 tasks, sd 1.0", _WIDE, promoted_by(500), 90, "95", 1000),
    _no_less("power by 1,000 tasks, sd 1.0", _WIDE, promoted_by(1000), 96, "98", 1000),
    _no_more("trade-off: promoted", "trade-off", share("promote"), 0.05, "0"),
    _no_less("watch, 5 points and 0.3 worse: reverted", "watch-worse-5-0.3", share("rollback"), 95, "98"),
    _no_more("watch, equal: reverted", "watch-equal", share("rollback"), 3, "2.1", 2000),
)
