"""Books what came back from the judge: scores, what is tried again or set aside, and what it cost.

Called inside a transaction, with the tasks that are still on their way: what was booked before is not booked again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.collect import money
from cortex_autolearn.model.judgement import Answer
from cortex_autolearn.model.judging import Score, Spent

if TYPE_CHECKING:
    from cortex_autolearn.collect.needs import ScoringTransaction
    from cortex_autolearn.collect.tally import Tally
    from cortex_autolearn.model.judge_policy import ModelPrice
    from cortex_autolearn.model.judgement import Refusal
    from cortex_autolearn.model.judging import Sent

_REASON_CHARS: Final = 300


class Terms(NamedTuple):
    """On which terms requests were sent: the model's price, None where it is known no more; and how often to try."""

    model: str
    price: ModelPrice | None
    is_batch: bool
    max_attempts: int


def book(
    transaction: ScoringTransaction, item: Sent, result: Answer | Refusal, terms: Terms, now_us: int, tally: Tally
) -> None:
    """Book one result of a task that is on its way."""
    took = _spent(item, result, terms)
    if took.requests:
        transaction.spend(item.sent_day, terms.model, took)
        tally.cost += took.cost
    if not isinstance(result, Answer):
        reason = f"{result.kind}: {result.reason}"
        if result.about_all:
            transaction.retry_item(item, reason[:_REASON_CHARS], is_attempt=False)
            tally.retried += 1
        else:
            again(transaction, item, reason, terms, tally, may_retry=result.retryable)
        return
    given = result.judgement
    transaction.put_score(
        Score(
            item.task_id,
            given.overall,
            given.task_success,
            given.correctness,
            given.completeness,
            given.clarity,
            given.rationale,
            terms.model,
            result.model,
            item.rubric,
            took.cost,
            result.request_id,
            now_us,
            item.source,
            item.source_offset,
            item.digest,
        )
    )
    transaction.settle_item(item)
    tally.scored += 1


def again(
    transaction: ScoringTransaction, item: Sent, reason: str, terms: Terms, tally: Tally, *, may_retry: bool = True
) -> None:
    """Let a task that got no score wait again, or set it aside when that was tried often enough."""
    reason = reason[:_REASON_CHARS]
    if may_retry and item.attempts < terms.max_attempts:
        transaction.retry_item(item, reason)
        tally.retried += 1
    else:
        transaction.set_aside(item.id, item.source, item.source_offset, reason)
        tally.set_aside += 1


def lose(transaction: ScoringTransaction, item: Sent, reason: str, terms: Terms, tally: Tally) -> None:
    """Book a request of which nothing will be heard: it may have cost what was reserved, and is made again."""
    transaction.spend(item.sent_day, terms.model, Spent(requests=1, lost=1, cost=item.reserve))
    tally.cost += item.reserve
    again(transaction, item, reason, terms, tally)


def _spent(item: Sent, result: Answer | Refusal, terms: Terms) -> Spent:
    if result.usage is None:
        # An answer that does not tell what it took may have taken all that was reserved.
        return Spent(requests=1, cost=item.reserve) if result.kind == "invalid" else Spent()
    if terms.price is None:  # its row was taken out of the settings meanwhile
        return Spent(requests=1, cost=item.reserve)
    return money.spent(result.usage, terms.price, is_batch=terms.is_batch)
