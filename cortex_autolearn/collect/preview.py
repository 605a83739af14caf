"""What scoring would do and cost, found out without sending or changing anything."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.collect import money, score
from cortex_autolearn.collect.asking import Question
from cortex_autolearn.collect.session import budgets
from cortex_autolearn.model.judging import MICRO_USD, Waiting
from cortex_autolearn.ports import OutputDamagedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from cortex_autolearn.collect.asking import Asking
    from cortex_autolearn.collect.money import Budget
    from cortex_autolearn.collect.needs import ScoringReading
    from cortex_autolearn.model.judge_policy import JudgePolicy, ModelPrice
    from cortex_autolearn.model.policy import GatePolicy
    from cortex_autolearn.model.rubric import Rubrics

_AT_ONCE: Final = 200


class Preview(NamedTuple):
    """What scoring would do now; money in millionths of a US dollar, without regard to the budgets."""

    waiting: int
    tasks: int
    in_batches: bool
    usual: int
    most: int
    budgets: tuple[Budget, ...]
    held: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is printed."""
        return {
            "waiting": self.waiting,
            "tasks": self.tasks,
            "in_batches": self.in_batches,
            "estimated_cost_usd": self.usual / MICRO_USD,
            "most_cost_usd": self.most / MICRO_USD,
            "budgets": [
                {
                    "period": one.period,
                    "budget_usd": one.limit / MICRO_USD,
                    "spent_usd": one.spent / MICRO_USD,
                    "under_way_usd": one.under_way / MICRO_USD,
                }
                for one in self.budgets
            ],
            "held": self.held,
        }


class Rules(NamedTuple):
    """By which settings is looked."""

    gate: GatePolicy
    policy: JudgePolicy
    rubrics: Rubrics
    under_test: Mapping[str, int]
    price: ModelPrice
    today: int


def preview(
    reading: ScoringReading,
    asking: Asking,
    rules: Rules,
    limit: int | None,
    held: str,
    *,
    rescore: bool,
    again: Collection[str] | None = None,
) -> Preview:
    """Return what scoring would do now.

    Arguments:
        reading: the state.
        asking: makes the questions.
        rules: the settings.
        limit: the most tasks to send.
        held: why nothing would be sent, or nothing.
        rescore: also tasks whose score is of another model or rubric.
        again: also these tasks that were set aside; empty for all of them.
    """
    found: list[Waiting] = []
    waiting = tasks = usual_alone = most_alone = usual = most = 0

    def take() -> None:
        nonlocal waiting, tasks, usual_alone, most_alone, usual, most
        for question in _questions(reading, asking, found):
            waiting += 1
            if limit is not None and tasks >= limit:
                continue
            tasks += 1
            alone = money.estimate(question.rubric.text, question.user, rules.price, is_batch=False)
            batched = money.estimate(question.rubric.text, question.user, rules.price, is_batch=True)
            usual_alone, most_alone = usual_alone + alone.usual, most_alone + alone.most
            usual, most = usual + batched.usual, most + batched.most
        found.clear()

    for item in chain(set_aside(reading, again), _items(reading, rules, rescore=rescore)):
        found.append(item)
        if len(found) == _AT_ONCE:
            take()
    take()
    in_batches = tasks >= rules.policy.batch_min
    cost = (usual, most) if in_batches else (usual_alone, most_alone)
    return Preview(waiting, tasks, in_batches, *cost, budgets(reading, rules.policy, rules.today), held)


def set_aside(reading: ScoringReading, task_ids: Collection[str] | None) -> list[Waiting]:
    """Return which of these tasks were set aside; all that were when none is named, nothing for None."""
    if task_ids is None:
        return []
    return [item for item in reading.set_aside_items() if not task_ids or item.task_id in task_ids]


def _items(reading: ScoringReading, rules: Rules, *, rescore: bool) -> Iterator[Waiting]:
    """Yield what waits, and what would be chosen; of the latter nothing is numbered yet."""
    after = 0
    while items := reading.waiting_items(after, _AT_ONCE):
        after = items[-1].id
        yield from items
    last, chosen_by = reading.chosen()
    last = last if chosen_by == score.rules(rules.gate, rules.under_test) else 0
    until = reading.last_task()
    while rows := reading.candidates(last, until, _AT_ONCE, rules.under_test):
        last = rows[-1].id
        queued = reading.queued([row.task_id for row in rows])
        judged = reading.judged([row.task_id for row in rows])
        for row in rows:
            old = judged.get(row.task_id)
            is_new = old is None or (old.source, old.source_offset) != (row.source, row.source_offset)
            if row.task_id not in queued and is_new and score.wanted(row, rules.gate, rules.under_test):
                yield Waiting(0, row.task_id, 0, 0)
    name = ""
    while rescore and (again := reading.to_rescore(rules.policy.model, rules.rubrics.versions(), name, _AT_ONCE)):
        name = again[-1]
        queued = reading.queued(again)
        yield from (Waiting(0, task_id, 0, 1) for task_id in again if task_id not in queued)


def _questions(reading: ScoringReading, asking: Asking, items: list[Waiting]) -> Iterator[Question]:
    try:
        yield from (one for one in asking.prepare(reading, items) if isinstance(one, Question))
    except OutputDamagedError:
        return  # the daemon is just writing silver anew: an estimate need not wait for that
