"""Promote, roll back, retire, give up or go on: what follows from the numbers of a test (DECISION, "Decision").

The product's thresholds are requirements on what was measured; beside them stands evidence that may be looked at after
every task, for ever. No evidence is never success. Where the numbers come from is ``evidence``'s business, what is done
about a decision ``job``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import TYPE_CHECKING, Final

from cortex_autolearn.model.rollout import (
    SCORES,
    Continue,
    Decision,
    Inconclusive,
    Invalid,
    Numbers,
    Pair,
    Promote,
    Reason,
    Retire,
    Rollback,
    Settle,
    WatchDecision,
)
from cortex_autolearn.rollout import breaker
from cortex_autolearn.rollout.evidence import SCORED, SPLIT, UNROUTED

if TYPE_CHECKING:
    from cortex_autolearn.model.rollout_policy import RolloutPolicy

DAY_S: Final = 86_400
MOST: Final = 1e300
"""Evidence is shown up to this."""

TAU_QUALITY: Final = 0.25
TAU_COMPLETION: Final = 0.05
LEAST_VARIANCE: Final = 0.01
SCALED_SHARE: Final = 2 / 3

_AUTO: Final = ((30, 50), (75, 30), (150, 20))
_AUTO_ABOVE: Final = 10


def decide(numbers: Numbers, policy: RolloutPolicy, *, elapsed_s: float) -> Decision:
    """Return what follows from a test's numbers; asked after every outcome, closing window and day.

    Arguments:
        numbers: the evidence as it stands.
        policy: every bar.
        elapsed_s: seconds since the test began.
    """
    worse = _worse(numbers, policy) if _was_tried(numbers) else ()
    if worse:
        return Rollback(worse, numbers)
    ended = _ended(numbers, policy, elapsed_s)
    alarms = _alarms(numbers)
    if alarms:
        return Inconclusive((*ended, *alarms), numbers) if ended else Invalid(alarms, numbers)
    if all(one.met for one in criteria(numbers, policy)):
        return Promote(_gains(numbers), numbers)
    hopeless = _hopeless(numbers.closed, numbers.baseline_completion, policy)
    if hopeless:
        return Retire(hopeless, numbers)
    return Inconclusive(ended, numbers) if ended else Continue(_missing(numbers, policy), numbers)


def held(numbers: Numbers) -> Invalid | None:
    """Return what holds a test, whatever else its numbers say; None where no alarm rang."""
    alarms = _alarms(numbers)
    return Invalid(alarms, numbers) if alarms else None


def decide_watch(numbers: Numbers, policy: RolloutPolicy, *, elapsed_s: float) -> WatchDecision:
    """Return what follows from the numbers of a watch, in which the promoted model is the one on trial.

    As for a promotion, only tasks whose windows have closed settle it: of a promoted model that hangs nothing arrives.
    """
    bar = policy.watch_evidence
    reasons = _losses(numbers, bar, bar) + _broken(numbers, policy) if _was_tried(numbers) else []
    if reasons:
        return Rollback(tuple(reasons), numbers)
    watched = numbers.watched
    if watched >= policy.watch_tasks:
        return Settle((Reason("tasks", f"{watched:,} tasks were watched"),), numbers)
    if elapsed_s >= policy.watch_days * DAY_S:
        return Settle((Reason("days", f"it was watched for {elapsed_s / DAY_S:.0f} days"),), numbers)
    return Continue((Reason("tasks", f"{watched:,} of {policy.watch_tasks:,} tasks were watched"),), numbers)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing a promotion needs: how far it is, and how far it must be. ``value`` is None without any measurement.

    Evidence is given as its natural logarithm, and so is its bar.
    """

    name: str
    value: float | None
    bar: float
    met: bool


def criteria(numbers: Numbers, policy: RolloutPolicy) -> tuple[Criterion, ...]:
    """Return what a promotion needs, over the tasks whose windows have closed."""
    closed = numbers.closed
    rows = [
        _at_least("tasks_control", closed.control.tasks, policy.min_tasks),
        _at_least("tasks_treated", closed.treated.tasks, policy.min_tasks),
        _above("quality_gain", closed.quality_gain, policy.min_quality_gain),
        _above("completion_gain", closed.completion_gain, completion_bar(numbers.baseline_completion, policy)),
    ]
    if policy.evidence == "anytime":
        bar = log(policy.promotion_evidence)
        rows.append(_at_least("quality_evidence", numbers.quality_up, bar))
        rows.append(_at_least("completion_evidence", numbers.completion_up, bar))
    return tuple(rows)


def completion_bar(baseline_completion: float, policy: RolloutPolicy) -> float:
    """Return the gain of the completion rate, as a share of 1, that a promotion must exceed."""
    points = policy.min_completion_gain / 100
    if policy.completion_gate == "gain":
        return points
    return min(points, SCALED_SHARE * (1 - baseline_completion))


def is_out_of_reach(baseline_completion: float, policy: RolloutPolicy) -> bool:
    """Tell whether the champion completes so much that no challenger can gain what a promotion needs.

    A gain of 5 points on 95 % would need a challenger that never fails.
    """
    return policy.completion_gate == "gain" and baseline_completion >= 1 - policy.min_completion_gain / 100


def is_quality_out_of_reach(baseline_quality: float, policy: RolloutPolicy) -> bool:
    """Tell whether the champion is scored so high that no challenger can gain what a promotion needs."""
    return baseline_quality + policy.min_quality_gain >= SCORES[1]


def percentage_for(policy: RolloutPolicy, tasks_per_day: float) -> int:
    """Return the challenger's share of the traffic, in percent, for a test that starts now."""
    if policy.challenger_percentage != "auto":
        return policy.challenger_percentage
    return next((share for below, share in _AUTO if tasks_per_day < below), _AUTO_ABOVE)


def expected_days(policy: RolloutPolicy, percentage: float, tasks_per_day: float) -> tuple[float, float]:
    """Return in how many days a good challenger is promoted: the median and the 90th percentile.

    What counts is the number of challenger tasks times the champion's share (the variance of a difference goes with
    1/n1 + 1/n0). Simulated with +0.3 and +5.7 points, half of the good challengers need 160 of those, and nine of ten
    340; no variant may have fewer than ``min_tasks``, and the last window must close.
    """
    share = percentage / 100
    if tasks_per_day < _LEAST_TRAFFIC or not 0 < share < 1:
        return inf, inf
    least = policy.min_tasks / (tasks_per_day * min(share, 1 - share))
    days = [max(least, needed / (tasks_per_day * share * (1 - share))) for needed in _NEEDED]
    wait = policy.maturation_s / DAY_S
    return days[0] + wait, days[1] + wait


_NEEDED: Final = (160.0, 340.0)
_LEAST_TRAFFIC: Final = 1e-9
"""Fewer tasks a day than this are none: a division by it would leave the range of numbers."""


def shown(log_evidence: float) -> float:
    """Return evidence as people know it: an e-value, up to 1e300."""
    return min(exp(min(log_evidence, 700.0)), MOST)


def _was_tried(numbers: Numbers) -> bool:
    """Tell whether the model on trial has an outcome: the other one's alone say nothing about it.

    Among so many tasks of a test that is split as declared it would have some, so that the evidence means nothing.
    """
    return numbers.arrived.treated.tasks > 0


def _worse(numbers: Numbers, policy: RolloutPolicy) -> tuple[Reason, ...]:
    if policy.evidence == "thresholds":
        return _below_thresholds(numbers, policy)
    bar = policy.rollback_evidence
    reasons = _losses(numbers, bar, bar)
    if _is_slower(numbers, policy):
        took = [_seconds(arm.duration_s) for arm in (numbers.arrived.treated, numbers.arrived.control)]
        slow = f"takes {took[0]} on average, the champion {took[1]}"
        reasons.append(Reason("duration", f"{slow}; evidence {_e(numbers.duration_down)}"))
    if numbers.returned_down >= log(policy.vanishing_evidence):
        treated = numbers.closed.treated
        gone = f"{treated.tasks - treated.returned:,} of {treated.tasks:,} tasks never ended"
        reasons.append(Reason("vanishing", f"{gone}; evidence {_e(numbers.returned_down)}"))
    return tuple(reasons + _broken(numbers, policy))


def _below_thresholds(numbers: Numbers, policy: RolloutPolicy) -> tuple[Reason, ...]:
    """Mirror the thresholds of a promotion: the product's rule alone, for whoever asked for that."""
    closed = numbers.closed
    if min(closed.control.tasks, closed.treated.tasks) < policy.min_tasks:
        return ()
    reasons = []
    quality, completion = closed.quality_gain, closed.completion_gain
    if quality is not None and quality < -policy.min_quality_gain:
        reasons.append(Reason("quality", f"quality lower by {-quality:.3g}"))
    if completion is not None and completion < -completion_bar(numbers.baseline_completion, policy):
        reasons.append(Reason("completion", f"completion lower by {-100 * completion:.3g} points"))
    return tuple(reasons)


def _losses(numbers: Numbers, completion_bar: float, quality_bar: float) -> list[Reason]:
    reasons = []
    gained = numbers.arrived
    if numbers.completion_down >= log(completion_bar):
        loss = "" if gained.completion_gain is None else f" by {-100 * gained.completion_gain:.3g} points"
        reasons.append(Reason("completion", f"completes less{loss}; evidence {_e(numbers.completion_down)}"))
    if numbers.quality_down >= log(quality_bar) and SCORED not in numbers.alarms:
        loss = "" if gained.quality_gain is None else f" by {-gained.quality_gain:.3g}"
        reasons.append(Reason("quality", f"scored lower{loss}; evidence {_e(numbers.quality_down)}"))
    return reasons


def _is_slower(numbers: Numbers, policy: RolloutPolicy) -> bool:
    control, treated = numbers.arrived.control, numbers.arrived.treated
    if min(control.timed, treated.timed) < policy.slowdown_min_tasks:
        return False
    if numbers.duration_down < log(policy.slowdown_evidence):
        return False
    assert control.duration_s is not None
    assert treated.duration_s is not None
    return treated.duration_s > control.duration_s * (1 + policy.max_slowdown_percent / 100)


def _broken(numbers: Numbers, policy: RolloutPolicy) -> list[Reason]:
    row = numbers.failures_in_a_row
    seen, failed = numbers.control_since
    if 2 * failed > seen:  # nobody's fault: the other model fails as well
        return []
    at_least, chance = policy.breaker_failures, policy.breaker_chance
    if not breaker.fires(row, numbers.failure_rate, at_least=at_least, chance=chance):
        return []
    return [Reason("breaker", f"failed {row:,} times in a row")]


def _alarms(numbers: Numbers) -> tuple[Reason, ...]:
    if not numbers.alarms:
        return ()
    control, treated = numbers.assigned
    texts = {
        SPLIT: f"tasks are not split as they should be: {control:,} and {treated:,} were assigned, "
        f"{numbers.arrived.control.tasks:,} and {numbers.arrived.treated.tasks:,} have an outcome",
        SCORED: f"scores are missing more often in one variant: {_scored(numbers.closed)} of what completed has one",
        UNROUTED: f"the callers do not route: {numbers.unrouted:,} tasks of the challenger's never reached it",
    }
    return tuple(Reason(rule, texts[rule]) for rule in sorted(numbers.alarms))


def _scored(pair: Pair) -> str:
    shares = [100 * arm.scored / arm.completed if arm.completed else 0 for arm in (pair.control, pair.treated)]
    return f"{shares[0]:.0f} % and {shares[1]:.0f} %"


def _gains(numbers: Numbers) -> tuple[Reason, ...]:
    quality, completion = numbers.closed.quality_gain, numbers.closed.completion_gain
    assert quality is not None
    assert completion is not None
    return (
        Reason("quality", f"scored higher by {quality:.3g}; evidence {_e(numbers.quality_up)}"),
        Reason("completion", f"completes {100 * completion:.3g} points more; evidence {_e(numbers.completion_up)}"),
    )


def _hopeless(closed: Pair, baseline_completion: float, policy: RolloutPolicy) -> tuple[Reason, ...]:
    if policy.evidence == "thresholds" or not policy.retire_early:
        return ()
    if min(closed.control.tasks, closed.treated.tasks) < policy.min_tasks:
        return ()
    reasons = []
    quality, completion = (
        quality_bound(closed, policy.retirement_risk),
        completion_bound(closed, policy.retirement_risk),
    )
    if quality is not None and quality < policy.min_quality_gain:
        reasons.append(
            Reason("quality", f"its quality gains at most {quality:.4g}, needed: more than {policy.min_quality_gain:g}")
        )
    bar = completion_bar(baseline_completion, policy)
    if completion < bar:
        most = f"it completes at most {100 * completion:.4g} points more"
        reasons.append(Reason("completion", f"{most}, needed: more than {100 * bar:.3g}"))
    return tuple(reasons)


def quality_bound(closed: Pair, alpha: float) -> float | None:
    """Return the upper bound of the quality gain; None while a variant has fewer than two scores.

    V by Welch, and at least 0.01 (1/m_a + 1/m_b).
    """
    control, treated = closed.control, closed.treated
    if control.quality_variance is None or treated.quality_variance is None or closed.quality_gain is None:
        return None
    measured = control.quality_variance / control.scored + treated.quality_variance / treated.scored
    variance = max(measured, LEAST_VARIANCE * (1 / control.scored + 1 / treated.scored))
    return closed.quality_gain + _margin(variance, TAU_QUALITY, alpha)


def completion_bound(closed: Pair, alpha: float) -> float:
    """Return the upper bound of the completion gain, as a share of 1; each variant has at least one task.

    V = p (1 - p) (1/n_a + 1/n_b) with the pooled p = (successes + 1) / (n + 2): never zero.
    """
    control, treated = closed.control, closed.treated
    assert closed.completion_gain is not None
    pooled = (control.completed + treated.completed + 1) / (control.tasks + treated.tasks + 2)
    variance = pooled * (1 - pooled) * (1 / control.tasks + 1 / treated.tasks)
    return closed.completion_gain + _margin(variance, TAU_COMPLETION, alpha)


def _margin(variance: float, tau: float, alpha: float) -> float:
    """Return ``sqrt(V (1 + 1/r) (2 ln(1/alpha) + ln(1 + r)))`` with ``r = tau^2 / V``.

    The normal mixture's bound, which holds at all times at once (Robbins, "Statistical methods related to the law of
    the iterated logarithm", 1970).
    """
    r = tau * tau / variance
    return sqrt(variance * (1 + 1 / r) * (2 * log(1 / alpha) + log(1 + r)))


def _ended(numbers: Numbers, policy: RolloutPolicy, elapsed_s: float) -> tuple[Reason, ...]:
    if numbers.closed.treated.tasks >= policy.max_challenger_tasks:
        return (Reason("tasks", f"{numbers.closed.treated.tasks:,} tasks of the challenger's showed nothing"),)
    if elapsed_s >= policy.max_days * DAY_S:
        return (Reason("days", f"{elapsed_s / DAY_S:.0f} days showed nothing"),)
    return ()


def _missing(numbers: Numbers, policy: RolloutPolicy) -> tuple[Reason, ...]:
    return tuple(Reason(one.name, _shortfall(one)) for one in criteria(numbers, policy) if not one.met)


def _shortfall(one: Criterion) -> str:
    match one.name:
        case "tasks_control":
            return f"{one.value:,.0f} of {one.bar:,.0f} tasks of the champion's"
        case "tasks_treated":
            return f"{one.value:,.0f} of {one.bar:,.0f} tasks of the challenger's"
        case "quality_gain":
            return f"quality gain {_or_unknown(one.value)}, needed: more than {one.bar:g}"
        case "completion_gain":
            points = None if one.value is None else 100 * one.value
            return f"completion gain {_or_unknown(points)} points, needed: more than {100 * one.bar:.3g}"
        case _:
            assert one.value is not None
            return f"{one.name.replace('_', ' ')} {_e(one.value)} of {_e(one.bar)}"


def _or_unknown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _at_least(name: str, value: float, bar: float) -> Criterion:
    return Criterion(name, value, bar, value >= bar)


def _above(name: str, value: float | None, bar: float) -> Criterion:
    return Criterion(name, value, bar, value is not None and value > bar)


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g} s"


def _e(log_evidence: float) -> str:
    return f"{shown(log_evidence):.3g}"
