"""When a running test can be expected to be decided, if tasks go on coming as they do.

Says what to expect and decides nothing: that is ``decide``'s business, which knows no forecast.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.model.instants import DAY_US, SECOND_US, us_to_text
from cortex_autolearn.rollout.decide import expected_days

if TYPE_CHECKING:
    from cortex_autolearn.model.rollout import Numbers
    from cortex_autolearn.model.rollout_policy import RolloutPolicy

_NEVER_DAYS: Final = 36_500
"""What would take longer does not come."""


class Pace(NamedTuple):
    """How a test goes: tasks of its master a day, seconds since it began but for its pauses, and the instant now."""

    tasks_per_day: float
    elapsed_s: float
    now_us: int

    @property
    def began_us(self) -> int:
        """When it would have begun without pauses."""
        return self.now_us - round(self.elapsed_s * SECOND_US)


class Forecast(NamedTuple):
    """When a test may be decided; instants in microseconds, None where no task comes.

    Arguments:
        earliest_us: no promotion, and no retirement, comes before: until then tasks or their windows are missing.
        half_us: by then half of the challengers that are clearly better (+0.3, +5.7 points) are promoted.
        most_us: by then nine of ten of them are.
        latest_us: by then the test ends, whatever it showed.
    """

    earliest_us: int | None
    half_us: int | None
    most_us: int | None
    latest_us: int

    def as_dict(self) -> dict[str, Any]:
        """Return the instants as JSON holds them."""
        return {f"{name.removesuffix('_us')}_at": us_to_text(value) for name, value in self._asdict().items()}


def of_test(numbers: Numbers, policy: RolloutPolicy, percentage: float, pace: Pace) -> Forecast:
    """Return when a test may be decided.

    Arguments:
        numbers: the evidence as it stands.
        policy: the bars of this test.
        percentage: the challenger's share of the tasks.
        pace: how it goes.
    """
    share, per_day = percentage / 100, pace.tasks_per_day
    window_us = policy.maturation_s * SECOND_US
    closed, assigned = numbers.closed, numbers.assigned
    arms = (
        (policy.min_tasks - closed.control.tasks, assigned[0] - closed.control.tasks, 1 - share),
        (policy.min_tasks - closed.treated.tasks, assigned[1] - closed.treated.tasks, share),
    )
    waits = [_until_closed(missing, pending, part * per_day, window_us) for missing, pending, part in arms]
    known = [wait for wait in waits if wait is not None]
    earliest_us = pace.now_us + max(known) if len(known) == len(waits) else None
    half_us, most_us = (
        max(earliest_us or pace.now_us, pace.began_us + round(days * DAY_US)) if days < _NEVER_DAYS else None
        for days in expected_days(policy, percentage, per_day)
    )
    latest_us = pace.began_us + round(policy.max_days * DAY_US)
    left = policy.max_challenger_tasks - closed.treated.tasks
    by_tasks = _until_closed(left, assigned[1] - closed.treated.tasks, share * per_day, window_us)
    if by_tasks is not None:
        latest_us = min(latest_us, pace.now_us + by_tasks)
    return Forecast(earliest_us, half_us, most_us, max(latest_us, pace.now_us))


def of_watch(numbers: Numbers, policy: RolloutPolicy, pace: Pace) -> Forecast:
    """Return when a watch is settled, if nothing speaks against the promoted model; the arguments are the same."""
    latest_us = max(pace.now_us, pace.began_us + round(policy.watch_days * DAY_US))
    left, pending = policy.watch_tasks - numbers.watched, sum(numbers.assigned) - numbers.watched
    wait_us = _until_closed(left, pending, pace.tasks_per_day, policy.maturation_s * SECOND_US)
    if wait_us is None:
        return Forecast(None, None, None, latest_us)
    settled_us = min(latest_us, pace.now_us + wait_us)
    return Forecast(settled_us, settled_us, settled_us, latest_us)


def _until_closed(missing: int, pending: int, per_day: float, window_us: int) -> int | None:
    """Return after how many microseconds so many more windows have closed, at the latest; None for never.

    ``pending`` of them are open now, the others have yet to be assigned.
    """
    if missing <= 0:
        return 0
    unseen = missing - max(0, pending)
    if unseen <= 0:
        return window_us
    if per_day * _NEVER_DAYS < unseen:
        return None
    return ceil(unseen / per_day * DAY_US) + window_us
