"""What a silver record, or a line of a results file, means for a test: tables of the rules."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cortex_autolearn.assignment import variant
from cortex_autolearn.model import instants
from cortex_autolearn.model.experiments import Experiment, Pause
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.model.routing import Variant
from cortex_autolearn.rollout import outcomes
from cortex_autolearn.rollout.outcomes import Assigned, Finished, Record, Refused, Unrouted, Void, of_results, of_silver
from cortex_autolearn.rollout.plan import begin_watch

START = 1_000_000_000_000_000
NOW = START + 3_600 * instants.SECOND_US
CHAMPION, MODEL = "v1.0.0", "ft-20251127-001"
TEST = Experiment(
    test_id="security-master-ft-20251127-001",
    kind="test",
    master="security-master",
    a=CHAMPION,
    b=MODEL,
    treated="b",
    percentage_a=70,
    number=1,
    started_us=START,
    started_by="daemon",
    baseline={"completion": 0.9},
    policy=RolloutPolicy(),
)
WATCH = begin_watch(TEST, f"{TEST.test_id}-watch", START, "daemon", 0)


def task_of(arm: Variant, percentage_a: int = 70) -> str:
    """Return a task that the hash assigns to a variant."""
    return next(name for number in range(999) if variant(name := f"task-{number}", percentage_a) == arm)


def record(arm: Variant, **changes: Any) -> Record:
    """Return a completed record of a task of a variant."""
    plain = Record(
        task_of(arm, changes.pop("percentage_a", 70)),
        final=True,
        status="completed",
        created_us=START + 10,
        completed_us=START + 60,
        quality=4.0,
        own_quality=4.0,
        duration_s=30.0,
    )
    return plain._replace(**changes)


SUCCESS_A, FAILURE_A, SUCCESS_B, FAILURE_B = ("a", True), ("a", False), ("b", True), ("b", False)
CASES: list[tuple[Variant, dict[str, Any], object]] = [
    # The hash decides where the record does not say.
    ("a", {}, SUCCESS_A),
    ("b", {}, SUCCESS_B),
    ("b", {"status": "failed"}, FAILURE_B),
    ("b", {"model": MODEL}, SUCCESS_B),
    ("b", {"model": "claude-of-some-provider"}, SUCCESS_B),
    # Its own word decides where it went to the challenger.
    ("a", {"variant": "b"}, SUCCESS_B),
    ("a", {"variant": " B "}, SUCCESS_B),
    ("a", {"variant": MODEL, "model": MODEL}, SUCCESS_B),
    ("a", {"variant": "a", "model": CHAMPION}, SUCCESS_A),
    ("b", {"variant": "b", "model": MODEL, "experiment": TEST.test_id}, SUCCESS_B),
    # The champion answered: with a try of the challenger's that is its failure.
    ("b", {"model": CHAMPION, "fallback_from": MODEL}, FAILURE_B),
    ("b", {"model": CHAMPION, "variant": "b"}, FAILURE_B),
    ("b", {"variant": "b", "fallback_from": MODEL}, FAILURE_B),
    ("a", {"variant": "b", "model": CHAMPION}, FAILURE_B),
    ("b", {"variant": "a", "fallback_from": MODEL}, FAILURE_B),
    ("b", {"variant": "a", "fallback_from": "b", "model": CHAMPION}, FAILURE_B),
    # Without one it is no outcome.
    ("b", {"model": CHAMPION}, "unrouted"),
    ("b", {"variant": "a"}, "unrouted"),
    ("b", {"variant": "a", "model": CHAMPION}, "unrouted"),
    ("b", {"variant": CHAMPION}, "unrouted"),
    ("b", {"model": CHAMPION, "fallback_from": "some-other-model"}, "unrouted"),
    ("a", {"model": MODEL}, "unrouted"),
    # None of this test's.
    ("b", {"variant": "c"}, outcomes.UNKNOWN_VARIANT),
    ("b", {"experiment": "another"}, outcomes.FOREIGN_EXPERIMENT),
    ("b", {"status": "cancelled"}, ""),
    ("b", {"created_us": START - 1}, None),
    ("b", {"created_us": None, "completed_us": START - 1}, None),
    # Without times it counts from when it was first read.
    ("b", {"created_us": None, "completed_us": None}, SUCCESS_B),
    ("b", {"final": False, "status": "running"}, "assigned"),
]


class TestSilver:
    @pytest.mark.parametrize(("arm", "changes", "expected"), CASES)
    def test_a_record_belongs_to_whom_it_was_assigned(
        self, arm: Variant, changes: dict[str, Any], expected: object
    ) -> None:
        """Assignment decides, not who answered: FORMATS, "A/B test"."""
        found = of_silver(record(arm, **changes), TEST, NOW)
        match found:
            case None:
                seen: object = None
            case Finished(outcome):
                seen = ("b" if outcome.treated else "a", outcome.completed)
                assert outcome.probability == 0.3
                assert TEST.started_us <= outcome.assigned_us <= NOW
                assert outcome.at_us <= NOW
            case Unrouted():
                seen = "unrouted"
            case Assigned(_, treated):
                seen = "assigned" if treated else "assigned to a"
            case Void(_, reason):
                seen = reason
        assert seen == expected

    def test_in_a_watch_the_promoted_model_is_the_one_on_trial(self) -> None:
        """Its tasks are treated, with the probability of its own share; callers that stay with the other do not route."""
        ours = of_silver(record("a", percentage_a=80), WATCH, NOW)
        assert isinstance(ours, Finished)
        assert (ours.outcome.treated, ours.outcome.probability) == (True, 0.8)
        other = of_silver(record("b", percentage_a=80), WATCH, NOW)
        assert isinstance(other, Finished)
        assert not other.outcome.treated
        stayed = of_silver(record("a", percentage_a=80, model=CHAMPION), WATCH, NOW)
        assert isinstance(stayed, Unrouted)
        assert stayed.treated

    def test_what_began_in_a_pause_is_no_part_of_the_test(self) -> None:
        """Neither while it lasts nor after it; what began before it still is."""
        paused = msgspec.structs.replace(TEST, pauses=(Pause(START + 100, START + 200), Pause(START + 300)))
        seen = {
            begun: of_silver(record("b", created_us=START + begun), paused, NOW) is not None
            for begun in (50, 100, 199, 200, 299, 300, 10**9)
        }
        assert seen == {50: True, 100: False, 199: False, 200: True, 299: True, 300: False, 10**9: False}

    def test_a_clock_that_was_set_back_loses_no_outcome(self) -> None:
        """Read before the test began, by a clock that is wrong, it is an outcome of the test all the same, once."""
        found = of_silver(record("b", created_us=START + 50, completed_us=START + 90), TEST, START - 10**9)
        assert isinstance(found, Finished)
        assert (found.outcome.assigned_us, found.outcome.at_us) == (START, START)
        assert of_silver(record("b", created_us=START - 50, completed_us=START + 90), TEST, START - 10**9) is None

    def test_nothing_lies_in_the_future(self) -> None:
        """A creation or completion that has not come yet counts as now."""
        found = of_silver(record("b", created_us=NOW + 5, completed_us=NOW * 2), TEST, NOW)
        assert isinstance(found, Finished)
        assert (found.outcome.assigned_us, found.outcome.at_us) == (NOW, NOW)

    @pytest.mark.parametrize(("quality", "duration_s"), [(1e308, -1.0), (float("nan"), float("inf")), (0.0, 1e300)])
    def test_impossible_numbers_are_none(self, quality: float, duration_s: float) -> None:
        """An outcome with a score or duration that cannot be counts without it."""
        found = of_silver(record("b", quality=quality, own_quality=quality, duration_s=duration_s), TEST, NOW)
        assert isinstance(found, Finished)
        assert (found.outcome.quality, found.outcome.duration_s, found.own_quality) == (None, None, None)


LINE = {
    "test_id": TEST.test_id,
    "task_id": "t1",
    "variant": "b",
    "status": "completed",
    "duration_seconds": 30,
    "quality_score": 4.5,
    "timestamp": "2001-09-09T02:16:40Z",
}


class TestResults:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"test_id": "other"}, outcomes.FOREIGN_TEST),
            ({"test_id": "../../x"}, outcomes.FOREIGN_TEST),
            ({"test_id": ["x"]}, outcomes.FOREIGN_TEST),
            ({"task_id": ""}, outcomes.NO_TASK),
            ({"task_id": None}, outcomes.NO_TASK),
            ({"task_id": {"a": 1}}, outcomes.NO_TASK),
            ({"variant": "c"}, outcomes.UNKNOWN_VARIANT),
            ({"variant": None}, outcomes.UNKNOWN_VARIANT),
            ({"variant": 1}, outcomes.UNKNOWN_VARIANT),
            ({"status": "running"}, outcomes.NOT_FINAL),
            ({"status": None}, outcomes.NOT_FINAL),
            ({"quality_score": 1e308}, outcomes.NO_SCORE),
            ({"quality_score": -1}, outcomes.NO_SCORE),
            ({"quality_score": 0.5}, outcomes.NO_SCORE),
            ({"quality_score": "4"}, outcomes.NO_SCORE),
            ({"quality_score": True}, outcomes.NO_SCORE),
            ({"duration_seconds": -5}, outcomes.NO_TIME),
            ({"duration_seconds": 1e308}, outcomes.NO_TIME),
            ({"duration_seconds": 10**400}, outcomes.NO_TIME),
            ({"quality_score": -(10**400)}, outcomes.NO_SCORE),
            ({"duration_seconds": "30"}, outcomes.NO_TIME),
            ({"timestamp": "yesterday"}, outcomes.NO_INSTANT),
            ({"timestamp": 5}, outcomes.NO_INSTANT),
        ],
    )
    def test_what_is_no_outcome_says_why(self, changes: dict[str, Any], reason: str) -> None:
        """The first thing that is wrong names the line's reason for the quarantine."""
        assert of_results({**LINE, **changes}, TEST, NOW) == Refused(reason)

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, ("b", True, 4.5, 30.0)),
            ({"variant": "a"}, ("a", True, 4.5, 30.0)),
            ({"variant": MODEL}, ("b", True, 4.5, 30.0)),
            ({"status": "SUCCESS"}, ("b", True, 4.5, 30.0)),
            ({"status": "timeout", "quality_score": 0}, ("b", False, None, 30.0)),
            ({"quality_score": None, "duration_seconds": None}, ("b", True, None, None)),
            ({"quality_score": 0.0, "duration_seconds": 0}, ("b", True, None, 0.0)),
            ({"test_id": None, "task_id": 7}, ("b", True, 4.5, 30.0)),
        ],
    )
    def test_the_variant_that_the_shell_wrote_is_the_assignment(
        self, changes: dict[str, Any], expected: tuple[Any, ...]
    ) -> None:
        """Quality 0 means none, and a status is one of the fleet's words."""
        found = of_results({**LINE, **changes}, TEST, NOW)
        assert isinstance(found, Finished)
        one = found.outcome
        assert ("b" if one.treated else "a", one.completed, one.quality, one.duration_s) == expected
        assert one.from_results

    def test_a_cancelled_task_has_no_outcome(self) -> None:
        """Neither has one that began in a pause."""
        assert of_results({**LINE, "status": "cancelled"}, TEST, NOW) == Void("t1")
        paused = msgspec.structs.replace(TEST, pauses=(Pause(START),))
        assert of_results(LINE, paused, NOW) == Void("t1")

    def test_it_began_as_long_before_its_time_as_it_took(self) -> None:
        """But never before the test; a time without offset is UTC, and one that has not come yet is now."""
        found = of_results({**LINE, "timestamp": "2001-09-09T02:00:00"}, TEST, NOW)
        assert isinstance(found, Finished)
        assert found.outcome.at_us - found.outcome.assigned_us == 30 * instants.SECOND_US
        early = of_results({**LINE, "timestamp": "2001-09-09T01:46:40Z"}, TEST, NOW)
        assert isinstance(early, Finished)
        assert early.outcome.assigned_us == START
        future = of_results({**LINE, "timestamp": "2999-01-01T00:00:00Z"}, TEST, NOW)
        assert isinstance(future, Finished)
        assert future.outcome.at_us == NOW
