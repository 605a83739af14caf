"""One run of scoring: what it works with, and what its budgets allow."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cortex_autolearn.collect import money, tally
from cortex_autolearn.collect.booking import Terms
from cortex_autolearn.collect.money import Budget
from cortex_autolearn.model import instants
from cortex_autolearn.model.judging import MICRO_USD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cortex_autolearn.collect.asking import Asking
    from cortex_autolearn.collect.needs import ScoringReading, ScoringStore, ScoringTransaction
    from cortex_autolearn.collect.tally import Tally
    from cortex_autolearn.model.judge_policy import JudgePolicy
    from cortex_autolearn.ports import Clock, Judge, RunHandle


def budgets(reading: ScoringReading, policy: JudgePolicy, day: int) -> tuple[Budget, Budget]:
    """Return the budgets that a request of a day (YYYYMMDD) counts for: the day's and its month's."""
    first = day // 100 * 100
    text = f"{day:08d}"
    return (
        Budget(
            f"{text[:4]}-{text[4:6]}-{text[6:]}",
            money.micro_usd(policy.daily_usd),
            *reading.spent(day, day),
        ),
        Budget(f"{text[:4]}-{text[4:6]}", money.micro_usd(policy.monthly_usd), *reading.spent(first, first + 99)),
    )


@dataclass(frozen=True)
class Session:
    """What one run of scoring works with. ``limit`` is the most tasks that it sends; None for any number."""

    store: ScoringStore
    clock: Clock
    policy: JudgePolicy
    judge: Judge
    asking: Asking
    run: RunHandle
    tally: Tally
    limit: int | None

    @property
    def now_us(self) -> int:
        """The instant."""
        return instants.to_us(self.clock.now())

    @property
    def today(self) -> int:
        """The UTC day, YYYYMMDD: what is sent now counts for it."""
        return instants.day_number(self.clock.now())

    @property
    def room(self) -> int | None:
        """How many more tasks may be sent in this run; None for any number."""
        return None if self.limit is None else self.limit - self.tally.sent

    def terms(self, model: str, *, is_batch: bool, day: int | None = None) -> Terms:
        """Return on which terms a model is asked today, or was on a day (YYYYMMDD)."""
        price = money.price_of(model, self.today if day is None else day, self.policy.prices)
        return Terms(model, price, is_batch, self.policy.max_attempts)

    @contextmanager
    def write(self) -> Iterator[ScoringTransaction]:
        """Run a transaction that the tally belongs to: what was not committed is not counted either."""
        before = replace(self.tally, redactions=self.tally.redactions.copy())
        try:
            with self.store.write() as transaction:
                yield transaction
        except BaseException:
            vars(self.tally).update(vars(before))
            raise

    def count(self, transaction: ScoringTransaction) -> None:
        """Note in a transaction what the run has done by then."""
        transaction.count_run(self.run.run_id, self.tally.as_dict())

    def hold(self, transaction: ScoringTransaction, of: Sequence[Budget], most: int) -> None:
        """Send no more, as a request that may cost ``most`` has no room; tell of a budget that is reached, once."""
        full = money.reached(of, most)
        self.tally.held = tally.BUDGET if full else tally.UNDER_WAY
        for budget in full:
            if transaction.reach_budget(budget.period, budget.limit, self.now_us):
                transaction.event(
                    "budget_reached",
                    period=budget.period,
                    budget_usd=budget.limit / MICRO_USD,
                    spent_usd=budget.spent / MICRO_USD,
                    waiting=transaction.count_waiting(),
                )
