"""A test that is to begin: its name, what it is compared with, its share, and what is said about it at once."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from msgspec import structs

from cortex_autolearn.model.experiments import AliasChange, Experiment, Held, PastTask
from cortex_autolearn.model.instants import DAY_US, SECOND_US
from cortex_autolearn.model.layout import UnsafeNameError
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.rollout.baseline import Baseline, Past
from cortex_autolearn.rollout.plan import (
    FOREVER_US,
    GATE_OUT_OF_REACH,
    NO_METRICS,
    QUALITY_OUT_OF_REACH,
    TOO_SLOW,
    TRAFFIC_DAYS,
    History,
    begin_test,
    begin_watch,
    can_be_named,
    free_id,
    hopeless,
    matured_before_us,
    notes,
    past_of,
    per_day,
    reigns,
    warnings_of,
    watch_id,
)
from cortex_autolearn.rollout.plan import (
    test_id as name_of_test,
)

M = "security-master"
POLICY = RolloutPolicy(maturation_s=100)
VANISHED = Past(completed=False, quality=None, duration_s=None, returned=False)


def test_names_tell_what_is_tested() -> None:
    """A test is called after its master and its model, a watch after the test; people and shell scripts look for it."""
    assert name_of_test(M, "ft-20261101-001") == "security-master-ft-20261101-001"
    assert watch_id(M, "ft-20261101-001") == "security-master-ft-20261101-001-watch"


@pytest.mark.parametrize(
    ("taken", "free"),
    [(set(), "t"), ({"t"}, "t-2"), ({"t", "t-2"}, "t-3"), ({"t", "t-2", "t-3", "t-5"}, "t-4"), ({"t-2"}, "t")],
)
def test_a_test_that_is_run_again_has_its_own_name(taken: set[str], free: str) -> None:
    """The plain name if it is free, else the first number from 2 on."""
    assert free_id("t", taken.__contains__) == free


def test_a_name_that_is_too_long_for_a_file_is_refused() -> None:
    """Also when only its number makes it so."""
    longest = "t" * 128
    assert free_id(longest, lambda _: False) == longest
    with pytest.raises(UnsafeNameError):
        free_id(longest, {longest}.__contains__)


def task(**changes: Any) -> PastTask:
    created = PastTask(True, "completed", 4.5, 30.0, 0, 100 * SECOND_US)
    return created._replace(**changes)


@pytest.mark.parametrize(
    ("one", "past"),
    [
        (task(), Past(True, 4.5, 30.0)),
        (task(status="failed"), Past(False, 4.5, 30.0)),
        (task(status="".join(["comp", "leted"])), Past(True, 4.5, 30.0)),
        (task(created_us=7, completed_us=7 + 100 * SECOND_US), Past(True, 4.5, 30.0)),
        (task(status="abandoned"), Past(False, 4.5, 30.0)),
        (task(created_us=1, completed_us=100 * SECOND_US), Past(True, 4.5, 30.0)),
        (task(created_us=64, completed_us=63 + 100 * SECOND_US), Past(True, 4.5, 30.0)),
        (task(created_us=90 * SECOND_US, completed_us=10 * SECOND_US), Past(True, 4.5, 30.0)),
        (task(completed_us=100 * SECOND_US + 1), VANISHED),
        (task(created_us=7, completed_us=8 + 100 * SECOND_US), VANISHED),
        (task(created_us=None, completed_us=10**18), Past(True, 4.5, 30.0)),
        (task(completed_us=None), Past(True, 4.5, 30.0)),
        (task(final=False, status="pending"), VANISHED),
    ],
)
def test_what_a_champions_task_was(one: PastTask, past: Past) -> None:
    """Its outcome; vanished if it never ended or took longer than its window, as a test would count it."""
    assert past_of([one], POLICY) == [past]


def test_without_a_window_nothing_vanishes() -> None:
    """Then a task that has not ended is no outcome yet, and one that ended is never late; the others still count."""
    rows = [task(final=False, status="pending"), task(completed_us=10**18)]
    assert past_of(rows, RolloutPolicy(maturation_s=0)) == [Past(True, 4.5, 30.0)]
    assert past_of(rows, RolloutPolicy(maturation_s=1)) == [VANISHED, VANISHED]


def change(version: str, at_us: int, alias: str = "champion") -> AliasChange:
    return AliasChange(M, alias, version, at_us, "promote", "daemon", "", None)


def test_reigns() -> None:
    """From one change of the champion to the next; the first one's began before there was a history."""
    assert reigns([], "v1") == [(0, FOREVER_US)]
    assert reigns([change("ft", 5, "challenger")], "v1") == [(0, FOREVER_US)]
    history = [change("v1", 10), change("ft", 15, "challenger"), change("v2", 20), change("v1", 30)]
    assert reigns(history, "v1") == [(0, 20), (30, FOREVER_US)]
    assert reigns(history, "v2") == [(20, 30)]
    assert reigns(history, "v3") == []
    assert reigns([*history, change("v3", 40)], "".join(["v", "3"])) == [(40, FOREVER_US)]
    assert reigns([*history, change("v3", 40), change("v4", 50)], "v3") == [(40, 50)]
    assert reigns([change("v0", 5, "previous"), *history], "v0") == []
    a_hundred_years = 100 * 365 * DAY_US
    assert 1_800_000_000 * SECOND_US + a_hundred_years < FOREVER_US < 1 << 63, "and a column of the state holds it"


def test_a_task_is_looked_at_when_its_window_is_over() -> None:
    """A window of 100 s: what began 100 s ago."""
    assert matured_before_us(POLICY, 500 * SECOND_US) == 400 * SECOND_US


def test_traffic_is_counted_over_a_day_at_least() -> None:
    """Tasks since the first one; a burst in the first hour is not the traffic of a day twenty-four times over."""
    now = 100 * DAY_US
    assert TRAFFIC_DAYS == 14
    assert per_day(0, None, now) == 0.0
    assert per_day(140, now - 14 * DAY_US, now) == pytest.approx(10)
    assert per_day(140, now - DAY_US // 24, now) == pytest.approx(140)
    assert per_day(150, now - DAY_US * 3 // 2, now) == pytest.approx(100)
    assert per_day(100, now - DAY_US * 3 // 2, now) == pytest.approx(200 / 3)
    assert per_day(9, now - 99 * DAY_US, now) == pytest.approx(1 / 11)


HISTORY = History([Past(True, 4.5, 30.0)] * 60, 100.0)
HELD = Held(M, "v1.0.0", "deploying", "ft-1", None, 0)


def begun(policy: RolloutPolicy = POLICY) -> Experiment:
    return begin_test(HELD, "t-2", 2, policy, HISTORY)


def test_a_test_compares_the_challenger_with_the_champion() -> None:
    """The champion is ``a`` and keeps what the challenger does not get; all it is measured by is fixed at once."""
    found = begun()
    assert (found.test_id, found.kind, found.master, found.number) == ("t-2", "test", M, 2)
    assert (found.a, found.b, found.treated, found.model) == ("v1.0.0", "ft-1", "b", "ft-1")
    assert found.percentage_a == 90
    assert begun(RolloutPolicy(challenger_percentage="auto")).percentage_a == 80
    assert (found.started_by, found.is_active) == ("daemon", True)
    assert (found.started_us, found.seen, found.looked_us) == (0, 0, 0), "whoever starts it says when"
    assert found.baseline == asdict(Baseline.of(HISTORY.past))
    assert found.policy == POLICY
    assert found.notes == notes(POLICY, Baseline.of(HISTORY.past), 10, 100.0)
    assert found.metrics == NO_METRICS


def test_a_test_needs_a_challenger() -> None:
    """Without one it would compare a model with nothing."""
    with pytest.raises(AssertionError):
        begin_test(HELD._replace(challenger=None), "t", 1, POLICY, HISTORY)


def test_a_watch_turns_the_test_round() -> None:
    """The promoted model serves by default and is on trial; the former champion keeps its share and its baseline."""
    test = begun()
    found = begin_watch(test, "t-watch", 77, "person", 9)
    assert (found.test_id, found.kind, found.master, found.number) == ("t-watch", "watch", M, 2)
    assert (found.a, found.b, found.treated, found.model) == ("ft-1", "v1.0.0", "a", "ft-1")
    assert found.percentage_a == 80
    assert (found.started_us, found.looked_us, found.started_by, found.seen) == (77, 77, "person", 9)
    assert (found.baseline, found.policy) == (test.baseline, test.policy)
    assert found.metrics == NO_METRICS


def test_what_is_said_when_a_test_begins() -> None:
    """Its traffic and how long it will take, rounded as people read it; unknown where there is no traffic, and never."""
    plain = RolloutPolicy(maturation_s=0)
    found = notes(plain, Baseline(completion=0.9), 20, 100.26)
    assert found == {"tasks_per_day": 100.3, "expected_days": [10.0, 21.2], "warnings": []}
    assert notes(plain, Baseline(completion=0.9), 20, 0.0)["expected_days"] == [None, None]
    assert notes(plain, Baseline(completion=0.95), 20, 100.26)["expected_days"] == [None, None]
    assert notes(plain, Baseline(quality=4.85), 20, 100.26)["expected_days"] == [None, None]


@pytest.mark.parametrize(
    ("policy", "completion", "tasks_per_day", "warnings"),
    [
        ({}, 0.9, 1000, []),
        ({}, 0.95, 1000, [GATE_OUT_OF_REACH]),
        ({"completion_gate": "scaled"}, 0.95, 1000, []),
        ({}, 0.9, 100, [TOO_SLOW]),
        ({}, 0.95, 100, [GATE_OUT_OF_REACH, TOO_SLOW]),
        ({"challenger_percentage": "auto"}, 0.9, 100, []),
        ({}, 0.9, 0, []),
    ],
)
def test_warnings(policy: dict[str, Any], completion: float, tasks_per_day: float, warnings: list[str]) -> None:
    """Where no challenger can win, and where a share that the operator chose makes it take more than a month."""
    bars = RolloutPolicy(**policy)
    assert notes(bars, Baseline(completion=completion), 10, tasks_per_day)["warnings"] == warnings


@pytest.mark.parametrize(
    ("completion", "quality", "gain", "warnings"),
    [
        (0.9, 4.79, 0.2, []),
        (0.9, 4.85, 0.2, [QUALITY_OUT_OF_REACH]),
        (0.9, 4.7, 0.4, [QUALITY_OUT_OF_REACH]),
        (0.95, 4.85, 0.2, [GATE_OUT_OF_REACH, QUALITY_OUT_OF_REACH]),
    ],
)
def test_either_bar_may_be_out_of_reach(completion: float, quality: float, gain: float, warnings: list[str]) -> None:
    """A promotion needs both gains: what is said before a test, when it begins and in it is one rule's word."""
    policy = structs.replace(POLICY, min_quality_gain=gain)
    baseline = Baseline(completion=completion, quality=quality)
    test = structs.replace(begun(), baseline=asdict(baseline), policy=policy)
    assert notes(policy, baseline, 10, 1000.0)["warnings"] == warnings
    assert hopeless(test) == warnings
    assert hopeless(begin_watch(test, "t-watch", 77, "person", 9)) == []


def test_a_test_that_an_older_version_began_is_warned_of_as_well() -> None:
    """What was noted when it began stays, and what is looked at since is said besides, each once."""
    test = structs.replace(begun(), baseline=asdict(Baseline(quality=4.9)), notes={"warnings": [TOO_SLOW]})
    assert warnings_of(test) == [QUALITY_OUT_OF_REACH, TOO_SLOW]
    again = structs.replace(test, notes={"warnings": [QUALITY_OUT_OF_REACH]})
    assert warnings_of(again) == [QUALITY_OUT_OF_REACH]
    assert warnings_of(structs.replace(test, baseline={})) == [TOO_SLOW], "one that noted no rates rules nothing out"


def test_thirty_days_are_not_too_long() -> None:
    """The warning is about more than that: 340 / (0.09 x tasks a day) days, or what the least number of tasks takes."""
    plain = RolloutPolicy(maturation_s=0, min_tasks=1)
    assert notes(structs.replace(plain, min_tasks=1500), Baseline(), 50, 100.0)["expected_days"] == [30.0, 30.0]
    assert notes(structs.replace(plain, min_tasks=1500), Baseline(), 50, 100.0)["warnings"] == []
    traffic = 340 / (0.1 * 0.9 * 30)
    assert notes(plain, Baseline(), 10, traffic * 1.0001)["warnings"] == []
    assert notes(plain, Baseline(), 10, traffic / 1.0001)["warnings"] == [TOO_SLOW]


def test_a_test_shows_zeros_before_its_first_task() -> None:
    """For both variants in each of the numbers that Cortex's own files have; not one dictionary for all of them."""
    names = {"tasks_assigned", "tasks_completed", "tasks_failed", "avg_duration", "avg_quality_score"}
    assert {name: {"a": 0, "b": 0} for name in names} == NO_METRICS
    assert len({id(row) for row in NO_METRICS.values()}) == 5


@pytest.mark.parametrize(("length", "can"), [(100, True), (101, False)])
def test_a_model_can_be_tested_where_its_tests_can_be_named(length: int, can: bool) -> None:
    """With room for ``-watch`` and a number; a name may have 128 characters."""
    model_id = "m" * length
    assert can_be_named("development-master", model_id) is can
    assert len(f"development-master-{model_id}-watch-99") == 128 + (not can)
