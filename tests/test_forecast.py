"""When a test is expected to be decided: never earlier than it can be, never later than it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cortex_autolearn.model.instants import DAY_US
from cortex_autolearn.model.rollout import Arm, Numbers, Pair
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.rollout import forecast
from cortex_autolearn.rollout.baseline import Baseline
from cortex_autolearn.rollout.evidence import Evidence

NOW = 1_764_230_400_000_000
DAY_S = 86_400


def numbers(closed: tuple[int, int] = (0, 0), assigned: tuple[int, int] | None = None) -> Numbers:
    """Return the numbers of a test with so many closed windows and assigned tasks (champion's, challenger's)."""
    empty = Evidence(Baseline(), RolloutPolicy()).numbers()
    arms = Pair(Arm(tasks=closed[0]), Arm(tasks=closed[1]))
    return replace(empty, closed=arms, arrived=arms, assigned=assigned or closed)


def expected(
    closed: tuple[int, int] = (0, 0),
    assigned: tuple[int, int] | None = None,
    *,
    percentage: float = 10,
    tasks_per_day: float = 200,
    elapsed_s: float = 0,
) -> forecast.Forecast:
    pace = forecast.Pace(tasks_per_day, elapsed_s, NOW)
    return forecast.of_test(numbers(closed, assigned), RolloutPolicy(), percentage, pace)


def days(us: int | None) -> float:
    assert us is not None
    return (us - NOW) / DAY_US


class TestOfATest:
    @pytest.mark.parametrize(
        ("closed", "assigned", "earliest"),
        [
            ((0, 0), (0, 0), 100 / 20 + 1),  # 100 tasks of the challenger's at 20 a day, and the last one's window
            ((900, 60), (900, 60), 40 / 20 + 1),
            ((900, 60), (950, 90), 10 / 20 + 1),  # 30 are assigned, and close within a day
            ((900, 60), (950, 100), 1),
            ((900, 100), (950, 120), 0),
        ],
    )
    def test_the_earliest_is_when_the_last_missing_window_closes(
        self, closed: tuple[int, int], assigned: tuple[int, int], earliest: float
    ) -> None:
        """Each variant needs its tasks with closed windows; those assigned already need no new task."""
        assert days(expected(closed, assigned).earliest_us) == pytest.approx(earliest, abs=1e-6)

    def test_it_expects_what_was_said_at_the_start(self) -> None:
        """Half of the good models, and nine of ten, by the days that were simulated: 9 and 17 or so at 200 a day."""
        found = expected()
        assert days(found.half_us) == pytest.approx(160 / (200 * 0.09) + 1)
        assert days(found.most_us) == pytest.approx(340 / (200 * 0.09) + 1)

    def test_what_went_by_is_taken_off(self) -> None:
        """After five days the same instants are five days nearer, but never before the earliest."""
        found = expected((900, 100), elapsed_s=5 * DAY_S)
        assert days(found.half_us) == pytest.approx(160 / 18 + 1 - 5)
        late = expected((900, 50), elapsed_s=50 * DAY_S)
        assert late.half_us == late.most_us == late.earliest_us

    def test_it_ends_by_tasks_or_by_days(self) -> None:
        """Whichever comes first: 2,000 tasks of the challenger's, or 90 days."""
        assert days(expected(tasks_per_day=20).latest_us) == 90
        assert days(expected(tasks_per_day=1000).latest_us) == pytest.approx(2000 / 100 + 1)

    def test_without_tasks_nothing_is_expected_but_the_end(self) -> None:
        found = expected(tasks_per_day=0)
        assert (found.earliest_us, found.half_us, found.most_us) == (None, None, None)
        assert days(found.latest_us) == 90

    def test_as_json(self) -> None:
        """Instants are written as everywhere."""
        assert expected(tasks_per_day=0).as_dict() == {
            "earliest_at": None,
            "half_at": None,
            "most_at": None,
            "latest_at": "2026-02-25T08:00:00Z",
        }

    @given(
        closed=st.tuples(st.integers(0, 3000), st.integers(0, 3000)),
        pending=st.tuples(st.integers(0, 300), st.integers(0, 300)),
        percentage=st.integers(1, 50),
        tasks_per_day=st.floats(0, 1e6),
        elapsed_s=st.floats(0, 1e8),
    )
    @example(closed=(0, 0), pending=(0, 0), percentage=1, tasks_per_day=5e-324, elapsed_s=0.0)
    def test_the_instants_stand_in_their_order(
        self,
        closed: tuple[int, int],
        pending: tuple[int, int],
        percentage: int,
        tasks_per_day: float,
        elapsed_s: float,
    ) -> None:
        """Whatever the numbers: now <= earliest <= half <= most, and the end is not in the past."""
        assigned = (closed[0] + pending[0], closed[1] + pending[1])
        found = expected(closed, assigned, percentage=percentage, tasks_per_day=tasks_per_day, elapsed_s=elapsed_s)
        ordered = [one for one in (NOW, found.earliest_us, found.half_us, found.most_us) if one is not None]
        assert ordered == sorted(ordered)
        assert found.latest_us >= NOW


class TestOfAWatch:
    def test_it_is_settled_by_tasks_or_by_days(self) -> None:
        """The last of the tasks settles it when its window has closed."""
        policy = RolloutPolicy()
        seen = numbers((100, 400))
        found = forecast.of_watch(seen, policy, forecast.Pace(50, 0, NOW))
        assert days(found.earliest_us) == 500 / 50 + policy.maturation_s / DAY_S
        slow = forecast.of_watch(seen, policy, forecast.Pace(5, 10 * DAY_S, NOW))
        assert days(slow.earliest_us) == days(slow.latest_us) == 50

    def test_without_tasks_only_the_days_end_it(self) -> None:
        found = forecast.of_watch(numbers(), RolloutPolicy(), forecast.Pace(0, 0, NOW))
        assert (found.earliest_us, days(found.latest_us)) == (None, 60)
