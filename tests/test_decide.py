"""The decision: every rule at both sides of its bar, which rule goes first, and what each mode leaves out."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import exp, inf, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cortex_autolearn.model.policy import contradictions
from cortex_autolearn.model.rollout import (
    Arm,
    Continue,
    Decision,
    Inconclusive,
    Invalid,
    Numbers,
    Outcome,
    Pair,
    Promote,
    Retire,
    Rollback,
    Settle,
)
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.rollout import breaker
from cortex_autolearn.rollout.baseline import Baseline
from cortex_autolearn.rollout.decide import (
    completion_bar,
    completion_bound,
    criteria,
    decide,
    decide_watch,
    expected_days,
    held,
    is_out_of_reach,
    is_quality_out_of_reach,
    percentage_for,
    quality_bound,
    shown,
)
from cortex_autolearn.rollout.evidence import Evidence
from cortex_autolearn.rollout.scorecard import card

POLICY = RolloutPolicy()
JUST_BELOW = 1 - 1e-9


def arm(tasks: int = 200, completion: float = 0.9, quality: float | None = 4.0, seconds: float = 60.0) -> Arm:
    done = round(tasks * completion)
    return Arm(tasks, done, done if quality else 0, quality, 0.4 if quality else None, tasks, seconds, tasks)


def numbers(control: Arm | None = None, treated: Arm | None = None, **changes: Any) -> Numbers:
    """Return numbers that say: go on. The challenger looks better, and there is little evidence of anything."""
    pair = Pair(control or arm(1800), treated or arm(200, 0.96, 4.3))
    given_: dict[str, Any] = {"closed": pair, "arrived": pair, "assigned": (1800, 200), "unrouted": 0}
    logs = ("completion_up", "completion_down", "quality_up", "quality_down", "duration_down", "returned_down")
    given_ |= dict.fromkeys((*logs, "scored_up", "scored_down", "ratio_assigned", "ratio_recorded"), 0.0)
    given_ |= {"failures_in_a_row": 0, "control_since": (9, 1), "failure_rate": 0.1, "baseline_completion": 0.9}
    return Numbers(**(given_ | {"alarms": frozenset()} | changes))


def decided(found: Numbers, policy: RolloutPolicy = POLICY, elapsed_s: float = 0) -> Decision:
    return decide(found, policy, elapsed_s=elapsed_s)


def rules(decision: Any) -> set[str]:
    return {one.rule for one in decision.reasons}


CONVINCED: dict[str, Any] = {"quality_up": log(100), "completion_up": log(100)}


def test_nothing_known_is_no_success() -> None:
    """A test that has just begun, or of which one variant has no outcome, goes on."""
    empty = Evidence(Baseline(), POLICY).numbers()
    assert isinstance(decided(empty), Continue)
    for one in (replace(empty, **CONVINCED), numbers(treated=Arm(), **CONVINCED), numbers(control=Arm(), **CONVINCED)):
        assert isinstance(decided(one), Continue)
        assert isinstance(decided(one, RolloutPolicy(evidence="thresholds")), Continue)
    assert isinstance(decided(empty, elapsed_s=90 * 86_400), Inconclusive)


def test_without_an_outcome_nobody_is_rolled_back() -> None:
    """The champion's tasks alone are evidence of nothing, however many; one task of the other's, and they may be."""
    metrics = ("completion_down", "quality_down", "duration_down", "returned_down")
    losses: dict[str, Any] = dict.fromkeys(metrics, log(1e6))
    assert isinstance(decided(numbers(treated=Arm(), **losses)), Continue)
    assert isinstance(decide_watch(numbers(treated=Arm(), **losses), POLICY, elapsed_s=0), Settle)
    assert isinstance(decided(numbers(treated=arm(1), **losses)), Rollback)
    evidence = Evidence(Baseline(), RolloutPolicy(maturation_s=0))
    for number in range(2_000):
        evidence.observe(Outcome(str(number), False, 0.1, number, number, True, 4.4, 30.0))
        assert not isinstance(decided(evidence.numbers()), Rollback)


def test_promotion_needs_everything() -> None:
    """Tasks, gains and evidence; a little less of any one of them, and the test goes on or ends otherwise."""
    enough = numbers(arm(1800), arm(100, 0.96, 4.21), **CONVINCED)
    assert isinstance(decided(enough), Promote)
    for less in (
        replace(enough, quality_up=log(100 * JUST_BELOW)),
        replace(enough, completion_up=log(100 * JUST_BELOW)),
        numbers(arm(1800), arm(99, 0.96, 4.21), **CONVINCED),
        numbers(arm(99), arm(100, 0.96, 4.21), **CONVINCED),
        numbers(arm(1800), arm(100, 0.96, 4.2), **CONVINCED),
        numbers(arm(1800), arm(100, 0.95, 4.21), **CONVINCED),
        numbers(arm(1800), arm(100, 0.96, None), **CONVINCED),
    ):
        assert isinstance(decided(less), Continue | Retire)
        assert not all(one.met for one in criteria(less, POLICY))


def test_promotion_looks_at_closed_windows_only() -> None:
    """However good what has arrived looks."""
    arrived = Pair(arm(1800), arm(200, 0.99, 4.6))
    assert isinstance(decided(replace(numbers(**CONVINCED), closed=Pair(), arrived=arrived)), Continue)


def test_the_gain_must_exceed_its_bar() -> None:
    """4.3 is 0.2 above 4.1, not more, whatever machine numbers make of it."""
    assert 4.3 - 4.1 > 0.2
    assert isinstance(decided(numbers(arm(1800, 0.9, 4.1), arm(200, 0.96, 4.3), **CONVINCED)), Continue)
    assert isinstance(decided(numbers(arm(2000, 0.9), arm(2000, 0.95), **CONVINCED)), Retire | Inconclusive)


@pytest.mark.parametrize(("metric", "bar"), [("completion_down", 50), ("quality_down", 50), ("returned_down", 100)])
def test_evidence_of_a_loss_rolls_back(metric: str, bar: float) -> None:
    """From the first task on, at its bar and not below."""
    few = Pair(arm(2), arm(1, 0.0, None))
    for closed in (Pair(), few, numbers().closed):
        for value, rolls_back in ((bar, True), (bar * JUST_BELOW, False)):
            changes: dict[str, Any] = {"closed": closed, "arrived": few, metric: log(value)}
            assert isinstance(decided(numbers(**changes)), Rollback) is rolls_back


@pytest.mark.parametrize(
    ("evidence", "seconds", "tasks", "rolls_back"),
    [
        (100, 75.1, 30, True),
        (100, 75.0, 30, False),
        (99.9, 75.1, 30, False),
        (100, 75.1, 29, False),
        (1e9, 90, 29, False),
        (1e9, 40, 200, False),
    ],
)
def test_slowness_rolls_back(evidence: float, seconds: float, tasks: int, rolls_back: bool) -> None:
    """More than 25 % in the mean, with evidence of 100, and 30 timed tasks."""
    found = numbers(treated=arm(tasks, 0.9, 4.0, seconds), duration_down=log(evidence))
    assert isinstance(decided(found), Rollback) is rolls_back


@pytest.mark.parametrize(("rate", "k"), [(0.1, 6), (0.2, 8), (0.4, 14)])
def test_the_breaker_adapts_to_the_champion(rate: float, k: int) -> None:
    """6, 8 and 14 failures in a row at 90, 80 and 60 %; never below 5."""
    assert breaker.threshold(rate, at_least=5, chance=0.005) == k
    for row, fires in ((k, True), (k - 1, False)):
        assert isinstance(decided(numbers(failures_in_a_row=row, failure_rate=rate)), Rollback) is fires
    assert breaker.threshold(0.001, at_least=5, chance=0.005) == 5
    assert not breaker.fires(2000, 1.0, at_least=5, chance=0.005)


@pytest.mark.parametrize(("seen", "failed", "fires"), [(0, 0, True), (10, 5, True), (10, 6, False), (1, 1, False)])
def test_an_outage_is_nobodys_fault(seen: int, failed: int, fires: bool) -> None:
    """The breaker holds while the champion fails more than half of its tasks as well."""
    found = numbers(failures_in_a_row=50, control_since=(seen, failed))
    assert isinstance(decided(found), Rollback) is fires


@given(st.integers(1, 6), st.integers(1, 12), st.fractions(0, 1, max_denominator=20))
def test_the_chance_of_a_run_is_exact(length: int, tasks: int, rate: Fraction) -> None:
    """All sequences counted out."""
    expected = Fraction(0)
    for failed in product((True, False), repeat=tasks):
        text = "".join("x" if one else "." for one in failed)
        if "x" * length in text:
            expected += rate ** text.count("x") * (1 - rate) ** text.count(".")
    assert breaker.chance_of_run(length, float(rate), tasks) == pytest.approx(float(expected), abs=1e-9)


@given(st.integers(1, 60), st.floats(0.0, 1.0), st.floats(0, 1))
def test_the_breakers_short_cut_changes_nothing(row: int, rate: float, chance: float) -> None:
    """What the union bound settles, the exact chance settles likewise."""
    exact = breaker.chance_of_run(row, rate) <= chance
    bound = breaker.fires(row, rate, at_least=1, chance=chance)
    assert exact == bound or abs(breaker.chance_of_run(row, rate) - chance) < 1e-9


@pytest.mark.parametrize("row", [5, 6, 9, 14, 40])
def test_the_breaker_fires_up_to_the_very_rate(row: int) -> None:
    """At the rate at which the chance of a row is 0.005, and not a hair above."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if breaker.chance_of_run(row, middle) <= 0.005 else (low, middle)
    assert breaker.fires(row, low * (1 - 1e-6), at_least=5, chance=0.005)
    assert not breaker.fires(row, low * (1 + 1e-6), at_least=5, chance=0.005)
    assert breaker.threshold(low * (1 - 1e-6), at_least=1, chance=0.005) == row


@pytest.mark.parametrize("alarm", ["split", "scored", "unrouted"])
def test_an_alarm_forbids_promotion_and_retirement_but_no_rollback(alarm: str) -> None:
    """It holds the test and says why; at the end of its time the test ends."""
    rung: dict[str, Any] = {"alarms": frozenset({alarm})}
    assert rules(decided(numbers(**CONVINCED, **rung))) == {alarm}
    for found in (numbers(**CONVINCED, **rung), numbers(arm(1800), arm(200, 0.8), **rung)):
        assert isinstance(decided(found), Invalid)
    assert isinstance(decided(numbers(**rung, completion_down=log(50))), Rollback)
    late = decided(numbers(**CONVINCED, **rung), elapsed_s=91 * 86_400)
    assert isinstance(late, Inconclusive)
    assert rules(late) == {"days", alarm}
    assert held(numbers(**CONVINCED, **rung)) == decided(numbers(**CONVINCED, **rung))
    assert held(numbers(**CONVINCED)) is None


def test_missing_scores_block_a_rollback_by_quality_only() -> None:
    """Which tasks are scored decides the mean then, not the model."""
    rung: dict[str, Any] = {"alarms": frozenset({"scored"})}
    assert isinstance(decided(numbers(**rung, quality_down=log(1e6))), Invalid)
    assert rules(decided(numbers(**rung, quality_down=log(1e6), completion_down=log(50)))) == {"completion"}


def test_a_hopeless_challenger_is_retired() -> None:
    """Where an upper bound of a gain lies below promotion's bar, and not before 100 tasks each."""
    assert rules(decided(numbers(arm(1800), arm(200, 0.96, 3.9)))) == {"quality"}
    assert rules(decided(numbers(arm(1800), arm(200, 0.85, 4.3)))) == {"completion"}
    assert isinstance(decided(numbers(arm(1800), arm(99, 0.7, 3.0))), Continue)
    assert isinstance(decided(numbers(arm(99), arm(200, 0.7, 3.0))), Continue)
    assert isinstance(decided(numbers(arm(100), arm(100, 0.5, 3.0))), Retire)
    hopeless = numbers(arm(1800), arm(200, 0.85, 3.9))
    assert isinstance(decided(hopeless), Retire)
    assert isinstance(decided(hopeless, RolloutPolicy(retire_early=False)), Continue)


def test_what_can_just_be_reached_is_not_hopeless() -> None:
    """At a bar that is the very bound of the gain the test goes on; a hair above it, it ends."""
    one = numbers(arm(1800), arm(200, 0.93, 4.05))
    most = quality_bound(one.closed, 0.05)
    assert most is not None
    assert isinstance(decided(one, RolloutPolicy(min_quality_gain=most)), Continue)
    assert rules(decided(one, RolloutPolicy(min_quality_gain=most * 1.0001))) == {"quality"}


def test_the_bounds_are_those_of_the_normal_mixture() -> None:
    """Written out: V, r, and UB = gain + sqrt(V (1 + 1/r) (2 ln 20 + ln(1 + r)))."""
    pair = Pair(arm(900, 0.9, 4.0), arm(100, 0.95, 4.1))

    def bound(gain: float, variance: float, tau: float) -> float:
        r = tau**2 / variance
        return float(gain + (variance * (1 + 1 / r) * (2 * log(20) + log(1 + r))) ** 0.5)

    p = (810 + 95 + 1) / 1002
    assert completion_bound(pair, 0.05) == pytest.approx(bound(0.05, p * (1 - p) * (1 / 900 + 1 / 100), 0.05))
    other, p = Pair(arm(900, 0.3), arm(102, 0.5)), (270 + 51 + 1) / 1004
    assert completion_bound(other, 0.05) == pytest.approx(bound(0.2, p * (1 - p) * (1 / 900 + 1 / 102), 0.05))
    assert quality_bound(pair, 0.05) == pytest.approx(bound(0.1, 0.4 / 810 + 0.4 / 95, 0.25))
    same = Pair(replace(pair.control, quality_variance=0.0), replace(pair.treated, quality_variance=0.0))
    assert quality_bound(same, 0.05) == pytest.approx(bound(0.1, 0.01 * (1 / 810 + 1 / 95), 0.25))
    assert quality_bound(replace(pair, treated=arm(100, 0.9, None)), 0.05) is None
    single = replace(arm(100), scored=1, quality_variance=None)
    assert quality_bound(replace(pair, treated=single), 0.05) is None
    assert quality_bound(replace(pair, control=single), 0.05) is None


def test_perfect_variants_are_no_certainty() -> None:
    """No failure in 100 tasks is not zero variance: the pooled rate has a pseudo-outcome each."""
    assert completion_bound(Pair(arm(100, 1.0), arm(100, 1.0)), 0.05) > 0.01


def test_a_test_ends_after_2000_tasks_or_90_days() -> None:
    """With windows closed; before them promotion and retirement have the word."""
    many = numbers(arm(18_000), arm(2000, 0.9505, 4.205))
    assert rules(decided(many)) == {"tasks"}
    assert rules(decided(numbers(arm(18_000), arm(2200, 0.95, 4.205)))) == {"tasks"}, "some closed while nobody looked"
    assert isinstance(decided(replace(many, closed=Pair(arm(18_000), arm(1999, 0.9505, 4.205)))), Continue)
    assert isinstance(decided(replace(many, **CONVINCED)), Promote)
    assert rules(decided(numbers(), elapsed_s=90 * 86_400)) == {"days"}
    assert isinstance(decided(numbers(), elapsed_s=90 * 86_400 - 1), Continue)


def test_rollback_goes_first() -> None:
    """A challenger that qualifies for everything is rolled back."""
    both = numbers(arm(18_000), arm(2000, 0.99, 4.9), **CONVINCED, completion_down=log(50))
    assert isinstance(decided(both, elapsed_s=1e9), Rollback)


@pytest.mark.parametrize(("baseline", "bar"), [(0.925, 0.05), (0.97, 0.02), (1.0, 0.0), (0.5, 0.05)])
def test_the_scaled_gate(baseline: float, bar: float) -> None:
    """5 points at 92.5 %, 2 points at 97 %; the plain gate asks for 5 everywhere."""
    assert completion_bar(baseline, RolloutPolicy(completion_gate="scaled")) == pytest.approx(bar)
    assert completion_bar(baseline, POLICY) == 0.05


@pytest.mark.parametrize(
    ("baseline", "gate", "points", "out"),
    [
        (0.95, "gain", 5, True),
        (0.99, "gain", 5, True),
        (0.9498, "gain", 5, False),
        (0.99, "scaled", 5, False),
        (0.97, "gain", 1, False),
        (0.9, "gain", 10, True),
    ],
)
def test_a_champion_that_leaves_nothing_to_gain_is_told(baseline: float, gate: Any, points: float, out: bool) -> None:
    """From 95 % on, 5 points are practically impossible; one point is not."""
    assert is_out_of_reach(baseline, RolloutPolicy(completion_gate=gate, min_completion_gain=points)) is out


@pytest.mark.parametrize(
    ("baseline", "gain", "out"),
    [(4.8, 0.2, True), (4.79, 0.2, False), (5.0, 0.1, True), (4.9, 0.3, True), (4.5, 0.4, False), (4.5, 0.5, True)],
)
def test_a_champion_that_is_scored_too_high_is_told(baseline: float, gain: float, out: bool) -> None:
    """No challenger is scored above 5."""
    assert is_quality_out_of_reach(baseline, RolloutPolicy(min_quality_gain=gain)) is out


def test_thresholds_alone() -> None:
    """The product's rule without evidence: promotion at its thresholds, rollback at the mirrored ones, nothing else."""
    policy = RolloutPolicy(evidence="thresholds")
    assert isinstance(decided(numbers(arm(1800), arm(100, 0.96, 4.21)), policy), Promote)
    assert rules(decided(numbers(arm(1800), arm(100, 0.84, 4.21)), policy)) == {"completion"}
    assert rules(decided(numbers(arm(1800), arm(100, 0.96, 3.79)), policy)) == {"quality"}
    for one in (
        numbers(arm(1800), arm(100, 0.85, 3.8)),
        numbers(arm(1800), arm(99, 0.1, 1.0)),
        numbers(treated=arm(200, 0.92, 4.1), completion_down=99.0),
    ):
        assert isinstance(decided(one, policy), Continue)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Continue),
        ({"completion_down": log(20)}, Rollback),
        ({"quality_down": log(20)}, Rollback),
        ({"quality_down": log(20), "alarms": frozenset({"scored"})}, Continue),
        (
            {"completion_down": log(19.9), "quality_down": log(19.9), "returned_down": 99.0, "duration_down": 99.0},
            Continue,
        ),
        ({"failures_in_a_row": 6}, Rollback),
    ],
)
def test_the_watch(changes: dict[str, Any], kind: type) -> None:
    """A promotion is taken back at 20, or by the breaker."""
    found = numbers(arm(199), arm(800), **changes)
    assert isinstance(decide_watch(found, POLICY, elapsed_s=0), kind)


def test_a_watch_ends_after_1000_tasks_or_60_days() -> None:
    """Of both variants together; a loss that shows at the end still counts."""
    long = numbers(arm(200), arm(800))
    assert isinstance(decide_watch(long, POLICY, elapsed_s=0), Settle)
    assert isinstance(decide_watch(numbers(arm(2), arm(8)), POLICY, elapsed_s=60 * 86_400), Settle)
    assert isinstance(decide_watch(replace(long, quality_down=log(20)), POLICY, elapsed_s=0), Rollback)


@pytest.mark.parametrize(
    ("rate", "percentage"), [(0, 50), (29.9, 50), (30, 30), (74, 30), (75, 20), (149, 20), (150, 10)]
)
def test_the_automatic_percentage_goes_by_traffic(rate: float, percentage: int) -> None:
    """50 below 30 tasks a day, 30 below 75, 20 below 150, else 10; a number is taken as it is."""
    assert percentage_for(RolloutPolicy(challenger_percentage="auto"), rate) == percentage
    assert percentage_for(RolloutPolicy(challenger_percentage=7), rate) == 7


@pytest.mark.parametrize(
    ("rate", "percentage", "median", "p90"),
    [(20, 50, 29, 74), (50, 30, 15, 34), (100, 20, 10, 19), (200, 10, 9, 17), (500, 10, 4, 8)],
)
def test_the_expected_time_is_that_of_the_simulations(
    rate: float, percentage: float, median: float, p90: float
) -> None:
    """Within a fifth of what DECISION gives, and never less than the least number of tasks takes."""
    found = expected_days(structs.replace(POLICY, maturation_s=0), percentage, rate)
    assert found == pytest.approx((median, p90), rel=0.25)
    assert expected_days(POLICY, 10, 20)[0] > 50
    assert expected_days(POLICY, 10, 0) == (inf, inf)


def test_the_policys_defaults_are_those_of_the_decision() -> None:
    """The numbers whose error rates are known, and that contradict nothing."""
    assert (POLICY.min_tasks, POLICY.min_quality_gain, POLICY.min_completion_gain) == (100, 0.2, 5)
    assert (POLICY.challenger_percentage, POLICY.maturation_s, POLICY.max_challenger_tasks, POLICY.max_days) == (
        10,
        86_400,
        2000,
        90,
    )
    assert (POLICY.watch_percentage, POLICY.watch_tasks, POLICY.watch_days, POLICY.watch_evidence) == (20, 1000, 60, 20)
    assert list(contradictions(POLICY)) == []
    assert list(contradictions(RolloutPolicy(min_tasks=3000))) == [("min_tasks", "at most", "max_challenger_tasks")]


def test_evidence_is_shown_up_to_1e300() -> None:
    """A number JSON can hold."""
    assert shown(log(50)) == pytest.approx(50)
    assert shown(1e9) == 1e300
    assert shown(-1e9) == 0


def test_every_decision_says_why_with_its_numbers() -> None:
    """The card has the keys of FORMATS, and a reason for everything."""
    kinds = set()
    for found, elapsed_s in (
        (numbers(**CONVINCED), 0),
        (numbers(completion_down=log(60), failures_in_a_row=9), 0),
        (numbers(arm(1800), arm(200, 0.8)), 0),
        (numbers(), 1e8),
        (numbers(), 0),
        (numbers(alarms=frozenset({"split"})), 0),
    ):
        decision = decided(found, elapsed_s=elapsed_s)
        kinds.add(type(decision))
        shown_ = card(decision, ("v1.0.0", "ft-20251127-001"))
        assert set(shown_) == {"decision", "reasons", "decided_after", "variants", "gain", "evidence"}
        assert shown_["reasons"]
        assert all(isinstance(one, str) and one for one in shown_["reasons"])
        assert set(shown_["variants"]["b"]) >= {
            "name",
            "tasks",
            "completed",
            "completion_rate",
            "avg_quality",
            "avg_duration",
        }
        assert shown_["decided_after"] == {"tasks": 2000, "challenger_tasks": 200}
    assert len(kinds) == 6
    promoted = card(decided(numbers(**CONVINCED)), ("v1.0.0", "ft-20251127-001"))
    assert promoted["decision"] == "promote"
    assert promoted["gain"] == {"quality": 0.3, "completion_points": 6.0}
    assert promoted["evidence"]["quality_up"] == pytest.approx(exp(log(100)))


def test_a_card_counts_the_tasks_that_were_decided_by() -> None:
    """Those whose windows have closed, where these promote, retire, settle or end a test; else all outcomes so far."""
    arrived = Pair(arm(3000), arm(300))
    for found, elapsed_s, tasks in (
        (numbers(arrived=arrived, **CONVINCED), 0, 2000),
        (numbers(arm(1800), arm(200, 0.8), arrived=arrived), 0, 2000),
        (numbers(arrived=arrived), 1e8, 2000),
        (numbers(arrived=arrived), 0, 3300),
        (numbers(arrived=arrived, completion_down=log(60)), 0, 3300),
    ):
        shown_ = card(decided(found, elapsed_s=elapsed_s), ("v1.0.0", "ft-20251127-001"))
        assert shown_["decided_after"]["tasks"] == tasks
    for policy, tasks in ((POLICY, 2000), (RolloutPolicy(watch_tasks=5000), 3300)):
        watched = decide_watch(numbers(arrived=arrived), policy, elapsed_s=0)
        assert card(watched, ("v1.0.0", "ft-20251127-001"))["decided_after"]["tasks"] == tasks


# ------------------------------------------------------------------------------------------------------------ the words


def texts(decision: Any) -> list[str]:
    return [one.text for one in decision.reasons]


THRESHOLDS = RolloutPolicy(evidence="thresholds")
WORSE = numbers(
    arm(1800, 0.9, 4.5, 60.0),
    replace(arm(1234, 0.5, 4.25, 81.5), returned=34),
    completion_down=log(1_000_000.0),
    quality_down=log(123.4),
    duration_down=log(250.0),
    returned_down=log(4321.0),
    failures_in_a_row=1_006,
)


def test_a_rollback_says_by_how_much_it_is_worse() -> None:
    """Losses as positive numbers, in points, seconds and tasks, each with its evidence; a loss unknown is left out."""
    assert texts(decided(WORSE)) == [
        "completes less by 40 points; evidence 1e+06",
        "scored lower by 0.25; evidence 123",
        "takes 81.5 s on average, the champion 60 s; evidence 250",
        "1,200 of 1,234 tasks never ended; evidence 4.32e+03",
        "failed 1,006 times in a row",
    ]
    assert texts(decide_watch(WORSE, POLICY, elapsed_s=0)) == [
        "completes less by 40 points; evidence 1e+06",
        "scored lower by 0.25; evidence 123",
        "failed 1,006 times in a row",
    ]
    alone = numbers(Arm(), arm(5, 0.4, 4.25), completion_down=log(60.0), quality_down=log(50.0))
    assert texts(decided(alone)) == ["completes less; evidence 60", "scored lower; evidence 50"]


def test_a_rollback_by_thresholds_says_by_how_much() -> None:
    """In the units of the thresholds."""
    found = decided(numbers(arm(1800, 0.9, 4.5), arm(200, 0.78, 4.25)), THRESHOLDS)
    assert texts(found) == ["quality lower by 0.25", "completion lower by 12 points"]


def test_an_alarm_tells_the_counts_that_rang_it() -> None:
    """Who looks for the cause finds both variants' numbers, the other model's first; without a completion it is 0 %."""
    arrived = Pair(arm(4321, 0.9), arm(1234, 0.5))
    closed = Pair(replace(arm(4000, 0.9), scored=1820), replace(arm(1000, 0.5), scored=125))
    rung = numbers(unrouted=5_678, assigned=(9_876, 1_357), alarms=frozenset({"unrouted", "split", "scored"}))
    assert texts(decided(replace(rung, arrived=arrived, closed=closed))) == [
        "scores are missing more often in one variant: 51 % and 25 % of what completed has one",
        "tasks are not split as they should be: 9,876 and 1,357 were assigned, 4,321 and 1,234 have an outcome",
        "the callers do not route: 5,678 tasks of the challenger's never reached it",
    ]
    none = replace(rung, closed=Pair(arm(10, 0.0), arm(10, 1.0)), alarms=frozenset({"scored"}))
    assert texts(decided(none)) == [
        "scores are missing more often in one variant: 0 % and 100 % of what completed has one"
    ]


def test_a_promotion_says_what_is_gained() -> None:
    """With the evidence of each gain."""
    found = numbers(arm(1800), arm(200, 0.96, 4.25), quality_up=log(1_000.0), completion_up=log(200.0))
    assert texts(decided(found)) == ["scored higher by 0.25; evidence 1e+03", "completes 6 points more; evidence 200"]


def test_a_retirement_says_what_would_be_needed() -> None:
    """And the most that can still be hoped for, in the same unit."""
    found = numbers(arm(1800), arm(200, 0.8, 3.8))
    quality, completion = quality_bound(found.closed, 0.05), completion_bound(found.closed, 0.05)
    assert texts(decided(found)) == [
        f"its quality gains at most {quality:.4g}, needed: more than 0.2",
        f"it completes at most {100 * completion:.4g} points more, needed: more than 5",
    ]


def test_an_end_without_a_result_says_what_ran_out() -> None:
    """Tasks, or days, whichever came first."""
    many = numbers(arm(18_000), arm(2000, 0.9505, 4.205))
    assert texts(decided(many, elapsed_s=1e9)) == ["2,000 tasks of the challenger's showed nothing"]
    assert texts(decided(numbers(), elapsed_s=90.6 * 86_400)) == ["91 days showed nothing"]
    watched = numbers(arm(434), arm(800))
    assert texts(decide_watch(watched, POLICY, elapsed_s=0)) == ["1,234 tasks were watched"]
    few = numbers(arm(100), arm(400))
    assert texts(decide_watch(few, RolloutPolicy(watch_tasks=1234), elapsed_s=0)) == ["500 of 1,234 tasks were watched"]
    assert texts(decide_watch(few, POLICY, elapsed_s=60.6 * 86_400)) == ["it was watched for 61 days"]
    assert isinstance(decide_watch(few, POLICY, elapsed_s=60 * 86_400 - 1), Continue)


def test_a_test_that_goes_on_says_what_is_missing() -> None:
    """Everything that is, how far it is and how far it must be; what was not measured is unknown."""
    policy = RolloutPolicy(min_tasks=1_500, max_challenger_tasks=3000)
    found = numbers(arm(1_234, 0.9, 4.0), arm(1_001, 0.92, 4.125), quality_up=log(3.0), completion_up=log(2.0))
    assert texts(decided(found, policy)) == [
        "1,234 of 1,500 tasks of the champion's",
        "1,001 of 1,500 tasks of the challenger's",
        "quality gain 0.125, needed: more than 0.2",
        f"completion gain {100 * found.closed.completion_gain:.3g} points, needed: more than 5",  # type: ignore[operator]
        "quality evidence 3 of 100",
        "completion evidence 2 of 100",
    ]
    nothing = replace(found, closed=Pair())
    assert texts(decided(nothing, policy))[2:4] == [
        "quality gain unknown, needed: more than 0.2",
        "completion gain unknown points, needed: more than 5",
    ]


def test_how_far_a_promotion_is() -> None:
    """Each criterion with its measurement and its bar, as the status and the report show them."""
    found = criteria(numbers(**CONVINCED), POLICY)
    assert [(one.name, one.value, one.bar, one.met) for one in found] == [
        ("tasks_control", 1800, 100, True),
        ("tasks_treated", 200, 100, True),
        ("quality_gain", 0.3, 0.2, True),
        ("completion_gain", 0.06, 0.05, True),
        ("quality_evidence", log(100), log(100), True),
        ("completion_evidence", log(100), log(100), True),
    ]
    assert [one.name for one in criteria(numbers(), THRESHOLDS)] == [one.name for one in found[:4]]


# ------------------------------------------------------------------------------------------------------- how long it takes


@pytest.mark.parametrize(
    ("percentage", "tasks_per_day", "changes", "days"),
    [
        (20, 100.0, {"maturation_s": 0}, (10.0, 21.25)),
        (20, 100.0, {"maturation_s": 129_600}, (11.5, 22.75)),
        (20, 100.0, {"maturation_s": 0, "min_tasks": 310}, (15.5, 21.25)),
        (80, 100.0, {"maturation_s": 0, "min_tasks": 310}, (15.5, 21.25)),
        (20, 100.0, {"maturation_s": 0, "min_tasks": 1000}, (50.0, 50.0)),
        (0, 100.0, {}, (inf, inf)),
        (100, 100.0, {}, (inf, inf)),
        (-10, 100.0, {}, (inf, inf)),
        (110, 100.0, {}, (inf, inf)),
        (20, 0.9e-9, {}, (inf, inf)),
    ],
)
def test_the_expected_time_is_the_slowest_of_what_is_needed(
    percentage: float, tasks_per_day: float, changes: dict[str, Any], days: tuple[float, float]
) -> None:
    """160 and 340 tasks times the champion's share, or the least number of tasks of either; then the last window."""
    assert expected_days(RolloutPolicy(**changes), percentage, tasks_per_day) == pytest.approx(days)


def test_hardly_any_traffic_is_traffic() -> None:
    """A task in a billion days is the least that is divided by."""
    assert max(expected_days(POLICY, 10, 1e-9)) < inf
