"""Sends what waits, as far as the budgets allow: in batches where many wait, else one by one.

A run goes through the queue once: what comes back without a score waits for the next run.
"""

from __future__ import annotations

from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from cortex_autolearn.collect import booking, money, tally
from cortex_autolearn.collect.asking import Impossible, Known, Needless, Question
from cortex_autolearn.collect.batches import Batches, key_of, new_token, number_of
from cortex_autolearn.collect.session import budgets
from cortex_autolearn.model.judgement import Ask
from cortex_autolearn.model.judging import Sending
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cortex_autolearn.collect.asking import Prepared
    from cortex_autolearn.collect.needs import ScoringTransaction
    from cortex_autolearn.collect.session import Session
    from cortex_autolearn.model.judgement import Answer, Refusal

_PREPARED_AT_ONCE: Final = 50
_BATCH_BYTES: Final = 8 << 20
"""Of one batch: far less than the provider takes, as it is held in memory."""
_NO_ANSWER: Final = "the call failed"


class Sender:
    """What one run sends.

    Arguments:
        session: the run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._policy = session.policy
        self._after = 0  # of the queue: what was looked at in this run
        self._ready: deque[Question] = deque()
        self._has_passed = False  # over a question that is too dear for a whole budget

    async def send(self, *, takes_batches: bool) -> None:
        """Send what waits."""
        await self._send(takes_batches=takes_batches)
        if self._has_passed and not self._session.tally.held:
            self._session.tally.held = tally.TOO_DEAR

    async def _send(self, *, takes_batches: bool) -> None:
        while takes_batches and self._left() >= self._policy.batch_min and self._may_go_on():
            if not await self._one_batch():
                return
        while self._left() and self._may_go_on():
            before = self._session.tally.sent
            await self._one_by_one()
            if self._session.tally.held != tally.UNDER_WAY or self._session.tally.sent == before:
                return
            self._session.tally.held = ""  # what was under way is answered, and its price known

    def _left(self) -> int:
        """Return how many tasks wait that this run has not looked at, as far as it may send them."""
        with self._session.store.read() as reading:
            waiting = reading.count_waiting(self._after) + len(self._ready)
        room = self._session.room
        return waiting if room is None else min(waiting, room)

    def _may_go_on(self) -> bool:
        return not self._session.tally.held and not self._session.run.is_ending()

    # --- in batches ---------------------------------------------------------------------------------------------------

    async def _one_batch(self) -> bool:
        """Send one batch; False where there was none to send, or it is not known whether it was taken."""
        token = new_token()
        asks, items = self._gather(token)
        if not asks:
            return False
        is_sure = await Batches(self._session).send(token, asks, items, self._policy.model)
        if not is_sure:
            self._session.tally.held = tally.UNSURE
        self._session.run.progress(self._session.tally.sent, self._session.tally.sent + self._left())
        return is_sure

    def _gather(self, token: str) -> tuple[list[Ask], list[Sending]]:
        """Return as many questions as one batch and the budgets hold."""
        asks: list[Ask] = []
        items: list[Sending] = []
        current = self._session
        room, size = current.room, 0
        most_asks = self._policy.batch_max if room is None else min(self._policy.batch_max, room)
        with current.store.read() as reading:
            allowed = budgets(reading, self._policy, current.today)
        left = min(budget.left for budget in allowed)
        while len(asks) < most_asks and (question := self._affordable(is_batch=True)) is not None:
            ask = Ask(key_of(token, question.item.id), question.rubric.text, question.user)
            size += current.judge.ask_bytes(ask, model=self._policy.model)
            most = self._most(question, is_batch=True)
            if most > left or (size > _BATCH_BYTES and asks):
                if most > left and not asks:
                    with current.write() as transaction:
                        current.hold(transaction, allowed, most)
                break
            self._ready.popleft()
            left -= most
            asks.append(ask)
            items.append(self._note(question, token, most))
        return asks, items

    # --- one by one ---------------------------------------------------------------------------------------------------

    async def _one_by_one(self) -> None:
        """Ask about one task after the other, a few at a time."""
        token = new_token()
        begun: set[int] = set()
        failures: list[BoundaryError] = []
        current = self._session
        asks = self._begin_each(token, begun, failures)
        total = current.tally.sent + self._left()
        is_answered = False
        try:
            answers = current.judge.ask(asks, model=self._policy.model, concurrency=self._policy.concurrency)
            async with aclosing(answers) as results:
                async for result in results:
                    is_answered = True
                    self._book(result, token, begun)
                    is_answered = False
                    current.run.progress(current.tally.sent - len(begun), max(total, current.tally.sent))
        except BoundaryError as error:
            # Where the state refused an answer, that answer is charged, and so may be those that are under way.
            self._return(begun, is_free=not is_answered and error.is_free)
            raise
        if failures:
            raise failures[0]

    def _begin_each(self, token: str, begun: set[int], failures: list[BoundaryError]) -> Iterator[Ask]:
        """Yield the questions, each noted as sent just before; a failure must not cancel those that are under way."""
        try:
            while self._may_go_on() and self._session.room != 0:
                question = self._affordable(is_batch=False)
                if question is None or not self._begin(question):
                    return
                self._ready.popleft()
                begun.add(question.item.id)
                yield Ask(key_of(token, question.item.id), question.rubric.text, question.user)
        except BoundaryError as error:
            failures.append(error)

    def _begin(self, question: Question) -> bool:
        """Note that a task is sent; False where a budget has no room for it."""
        current = self._session
        most = self._most(question, is_batch=False)
        with current.write() as transaction:
            allowed = budgets(transaction, self._policy, current.today)
            if not money.allows(allowed, most):
                current.hold(transaction, allowed, most)
                return False
            transaction.send([self._note(question, None, most)])
        current.tally.sent += 1
        return True

    def _book(self, result: Answer | Refusal, token: str, begun: set[int]) -> None:
        current = self._session
        number = number_of(result.key, token)
        assert number is not None, "an answer bears the key of its ask"
        terms = current.terms(self._policy.model, is_batch=False)
        with current.write() as transaction:
            for item in transaction.sent([number]).values():
                booking.book(transaction, item, result, terms, current.now_us, current.tally)
            current.count(transaction)
        begun.discard(number)

    def _return(self, begun: set[int], *, is_free: bool) -> None:
        """Let the tasks wait again whose calls an error ended; an error that was answered is charged with nothing."""
        current = self._session
        terms = current.terms(self._policy.model, is_batch=False)
        with current.write() as transaction:
            for item in transaction.sent(begun).values():
                if is_free:
                    transaction.retry_item(item, "", is_attempt=False)
                else:
                    booking.lose(transaction, item, _NO_ANSWER, terms, current.tally)
            current.count(transaction)

    # --- questions ----------------------------------------------------------------------------------------------------

    def _affordable(self, *, is_batch: bool) -> Question | None:
        """Return the next question that a whole budget has room for: one that is dearer must not keep the others back.

        It waits for a greater budget. One that has no room even for an empty question is too small for all.
        """
        whole = money.micro_usd(min(self._policy.daily_usd, self._policy.monthly_usd))
        while (question := self._peek()) is not None:
            least = self._most(question._replace(user=""), is_batch=is_batch)
            if not least <= whole < self._most(question, is_batch=is_batch):
                break
            self._ready.popleft()
            self._has_passed = True
        return question

    def _peek(self) -> Question | None:
        """Return the next question about a task that waits, each of which comes once; None where there is no more."""
        while not self._ready:
            # In a transaction, so that silver stays as it is meanwhile.
            with self._session.write() as transaction:
                items = transaction.waiting_items(self._after, _PREPARED_AT_ONCE)
                for prepared in self._session.asking.prepare(transaction, items):
                    self._settle(transaction, prepared)
            if not items:
                return None
            self._after = items[-1].id
        return self._ready[0]

    def _settle(self, transaction: ScoringTransaction, prepared: Prepared) -> None:
        """Make a question ready to be sent, or settle a task that needs none."""
        done = self._session.tally
        match prepared:
            case Question():
                self._ready.append(prepared)
            case Needless(item):
                transaction.unqueue([item.id])
                done.dropped += 1
            case Known(item, source, source_offset):
                transaction.move_score(item.task_id, source, source_offset)
                transaction.wake_gate(item.task_id)
                transaction.unqueue([item.id])
                done.moved += 1
            case Impossible(item, source, source_offset, reason):
                transaction.set_aside(item.id, source, source_offset, reason)
                done.set_aside += 1

    def _most(self, question: Question, *, is_batch: bool) -> int:
        price = self._session.terms(self._policy.model, is_batch=is_batch).price
        assert price is not None, "the model was checked"
        return money.estimate(question.rubric.text, question.user, price, is_batch=is_batch).most

    def _note(self, question: Question, token: str | None, most: int) -> Sending:
        return Sending(
            question.item.id,
            token,
            question.rubric.version,
            question.source,
            question.source_offset,
            question.digest,
            most,
            self._session.today,
        )
