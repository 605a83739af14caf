"""How scoring stands: what waits, what is under way, what was scored, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cortex_autolearn.collect import tally
from cortex_autolearn.collect.session import budgets
from cortex_autolearn.model.judging import MICRO_USD

if TYPE_CHECKING:
    from cortex_autolearn.collect.money import Budget
    from cortex_autolearn.collect.needs import StandingReading
    from cortex_autolearn.model.judge_policy import JudgePolicy
    from cortex_autolearn.model.judging import QueueCounts, Spent


class Standing(NamedTuple):
    """All of it. ``unscored`` counts the tasks that lack only a score, whether somebody can give one or not.

    ``is_too_dear`` tells that some wait which the last run passed over, as each may cost more than a whole budget.
    """

    is_enabled: bool
    has_key: bool
    model: str
    model_state: str
    retires_on: str | None
    unscored: int
    queue: QueueCounts
    scored: int
    labelled: int
    budgets: tuple[Budget, Budget]
    total: Spent
    is_too_dear: bool

    @property
    def reached(self) -> list[Budget]:
        """The budgets that are spent, but for less than a request may cost."""
        return [one for one in self.budgets if one.is_reached]

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``status --json`` prints it."""
        day, month = self.budgets
        return {
            "enabled": self.is_enabled,
            "has_key": self.has_key,
            "model": self.model,
            "model_state": self.model_state,
            "model_retires_on": self.retires_on,
            "waiting_for_score": self.unscored,
            "queued": self.queue.waiting,
            "sent": self.queue.sent,
            "batches": self.queue.batches,
            "set_aside": self.queue.set_aside,
            "scored": self.scored,
            "labelled": self.labelled,
            "spent_usd": {
                "today": day.spent / MICRO_USD,
                "month": month.spent / MICRO_USD,
                "total": self.total.cost / MICRO_USD,
            },
            "budget_usd": {"daily": day.limit / MICRO_USD, "monthly": month.limit / MICRO_USD},
            "budgets_reached": [one.period for one in self.reached],
            "tokens": {
                "input": self.total.input_tokens,
                "cache_write": self.total.cache_write_tokens,
                "cache_read": self.total.cache_read_tokens,
                "output": self.total.output_tokens,
            },
        }


def stand(reading: StandingReading, policy: JudgePolicy, today: int, unscored: int, *, has_key: bool) -> Standing:
    """Look at how scoring stands.

    Arguments:
        reading: the state.
        policy: the ``[judge]`` section.
        today: the UTC day, YYYYMMDD.
        unscored: how many tasks lack only a score.
        has_key: whether there is a key to ask the judge with, as far as whoever looks can see: the daemon may have one
            all the same, and its last run tells.
    """
    last = reading.last_run("scoring")
    held = tally.NO_KEY if last is None else last.counts.get("held", tally.NO_KEY)
    model = reading.judge_note("model")
    is_known = model.get("model") == policy.model
    retires_on = model.get("retires_on") if is_known else None
    of_day, of_month = budgets(reading, policy, today)
    queue = reading.queue_counts()
    reached = reading.budgets_reached({one.period: one.limit for one in (of_day, of_month)})
    return Standing(
        policy.enabled,
        has_key or held not in {tally.NO_KEY, tally.DISABLED},
        policy.model,
        str(model.get("state", "unknown")) if is_known else "not looked up yet",
        None if retires_on is None else str(retires_on),
        unscored,
        queue,
        *reading.score_totals(),
        (
            of_day._replace(is_reached=of_day.period in reached),
            of_month._replace(is_reached=of_month.period in reached),
        ),
        reading.spend_total(),
        queue.waiting > 0 and held == tally.TOO_DEAR,
    )
