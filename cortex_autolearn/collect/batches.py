"""Batches, from the intent to the last result, across runs and kills.

The intent and the tasks of a batch are stored before it is sent, so that a process that is killed then leaves a trace
of it. The next run looks among the provider's batches for the one that it may be: of as many asks, made since, and not
known. Its keys tell in the end whether it was: they begin with a token that no other program has. Where none is found
within :data:`GRACE_S`, it was never taken, and its tasks wait again.
"""

from __future__ import annotations

import os
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Final

from cortex_autolearn.collect import booking
from cortex_autolearn.model import instants
from cortex_autolearn.model.judgement import Refusal
from cortex_autolearn.model.judging import OpenBatch
from cortex_autolearn.ports import (
    BoundaryError,
    JudgeAuthError,
    JudgeBusyError,
    JudgeMissingError,
    JudgeUnsureError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from cortex_autolearn.collect.needs import ScoringTransaction
    from cortex_autolearn.collect.session import Session
    from cortex_autolearn.model.judgement import Answer, Ask, Batch
    from cortex_autolearn.model.judging import Sending, Sent

GRACE_S: Final = 1_200
"""So long a batch may take to appear in the provider's list."""

_SKEW_S: Final = 30 * 86_400
"""So much the provider's clock may be behind ours, whichever of both is wrong: results are kept no longer. Of how many
batches that makes, ours is known by its keys."""
_BOOKED_AT_ONCE: Final = 200
_NO_RESULT: Final = "the batch ended without a result for it"
_REFUSED_HINT: Final = "Check the account's credit and limits, the key's rights, and judge.model"
_GONE: Final = "the provider has its batch or its results no more"


def new_token() -> str:
    """Return what the keys of one batch begin with."""
    return os.urandom(6).hex()


def key_of(token: str, number: int) -> str:
    """Return the key of a task of the queue in a batch."""
    return f"{token}-{number}"


def number_of(key: str, token: str) -> int | None:
    """Return which task of the queue a key stands for; None where it is not of this batch."""
    begin, _, number = key.rpartition("-")
    return int(number) if begin == token and number.isdecimal() else None


class _UnclearError(Exception):
    """What the provider said of one batch cannot be used; the others, and what waits, go on."""

    def __init__(self, error: BoundaryError) -> None:
        super().__init__(str(error))
        self.error = error


class Batches:
    """The batches of one run.

    Arguments:
        session: the run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._store = session.store
        self._refused: JudgeAuthError | None = None

    async def send(self, token: str, asks: Sequence[Ask], items: Sequence[Sending], model: str) -> bool:
        """Send a batch, whose tasks' notes name the token; False where it is not known whether it was taken.

        Raises:
            BoundaryError: it was not taken; its tasks wait again.
        """
        session = self._session
        with self._store.write() as transaction:
            transaction.intend_batch(token, model, len(asks), session.now_us)
            transaction.send(items)
        try:
            batch = await session.judge.submit(asks, model=model)
        except JudgeUnsureError as error:
            session.run.trouble(error)
            return False
        except Exception:
            with self._store.write() as transaction:
                _drop(transaction, token)
            raise
        session.tally.sent += len(asks)
        session.tally.batches += 1
        with self._store.write() as transaction:
            transaction.begin_batch(token, batch.id)
            session.count(transaction)
        return True

    async def follow(self, *, is_look_due: bool = True) -> bool:
        """Take in what batches have brought; False while it is not known of one whether it was taken.

        Arguments:
            is_look_due: also look at those that are known to run.

        Raises:
            JudgeAuthError: in one of them asks were refused for what would have all others refused as well; one of a
                model that is not asked any more says nothing about others, and is only told of.
        """
        with self._store.read() as reading:
            open_batches = reading.open_batches()
        is_sure = True
        for batch in open_batches:
            if batch.batch_id is not None and not is_look_due:
                continue
            try:
                await self._follow(batch)
            except _UnclearError as unclear:
                self._session.run.trouble(unclear.error)
            is_sure = is_sure and not self._is_unsure(batch.token)
        if self._refused is not None:
            raise self._refused
        return is_sure

    async def _follow(self, batch: OpenBatch) -> None:
        """Take in what a batch has brought; look for it where it is not known which one it is."""
        if self._session.run.is_ending():
            return
        is_known = batch.batch_id is not None
        if is_known:
            try:
                is_known = await self._take(batch)
            except JudgeMissingError as error:
                self._lose(batch, error)
        if not is_known:
            await self._seek(batch)

    async def _seek(self, batch: OpenBatch) -> None:
        """Try the batches that an intended one may be; where it is none of them, and was none for long, drop it."""
        gone: JudgeMissingError | None = None
        for found in await self._look_for(batch):
            if self._session.run.is_ending():
                return
            guess = batch._replace(batch_id=found.id)
            with self._store.write() as transaction:
                transaction.begin_batch(batch.token, found.id)
            try:
                if await self._take(guess):
                    return
            except JudgeMissingError as error:
                self._disown(guess)
                if abs(found.created_us - batch.intended_us) <= instants.DAY_US:
                    gone = error  # ours, unless another one is; an older one is another program's
        age_us = abs(self._session.now_us - batch.intended_us)  # it is below zero where the clock was set back
        if gone is not None:
            self._lose(batch, gone)
        elif age_us > GRACE_S * instants.SECOND_US:
            with self._store.write() as transaction:
                _drop(transaction, batch.token)

    def _is_unsure(self, token: str) -> bool:
        with self._store.read() as reading:
            return any(one.token == token and one.batch_id is None for one in reading.open_batches())

    async def _look_for(self, batch: OpenBatch) -> list[Batch]:
        """Return those of the provider's batches that an intended one may be, the likeliest first."""
        since_us = min(batch.intended_us, self._session.now_us) - _SKEW_S * instants.SECOND_US
        async with aclosing(self._session.judge.recent(since_us)) as recent:
            found = [one async for one in recent if one.asked == batch.asked and not self._is_known(one.id)]
        return sorted(found, key=lambda one: abs(one.created_us - batch.intended_us))

    def _is_known(self, batch_id: str) -> bool:
        with self._store.read() as reading:
            return reading.knows_batch(batch_id)

    async def _take(self, batch: OpenBatch) -> bool:
        """Store the results of a batch that has ended; False where it turns out to be another program's.

        Raises:
            JudgeMissingError: the provider has it, or its results, no more.
            _UnclearError: what it is, or what it has brought, cannot be read.
        """
        session = self._session
        assert batch.batch_id is not None
        with _about_one():
            state = await session.judge.batch(batch.batch_id)
        session.run.progress(state.asked - state.counts.get("processing", 0), state.asked)
        if state.state != "ended":
            return True
        async with aclosing(session.judge.results(batch.batch_id)) as results:
            unclear: _UnclearError | None = None
            has_begun = False
            while unclear is None:
                portion, unclear = await _portion(results, has_begun=has_begun)
                has_begun = True
                if any(number_of(result.key, batch.token) is None for result in portion):
                    self._disown(batch)
                    return False
                self._book(portion, batch)
                if len(portion) < _BOOKED_AT_ONCE:
                    break
                if session.run.is_ending():
                    return True
            if unclear is not None:
                raise unclear
        self._close(batch, "ended")
        return True

    def _lose(self, batch: OpenBatch, error: JudgeMissingError) -> None:
        self._session.run.trouble(error)
        self._close(batch, "lost")

    def _disown(self, batch: OpenBatch) -> None:
        with self._store.write() as transaction:
            transaction.disown_batch(batch)

    def _book(self, results: Sequence[Answer | Refusal], batch: OpenBatch) -> None:
        session = self._session
        terms = session.terms(batch.model, is_batch=True, day=_day_of(batch))
        by_number = {number_of(result.key, batch.token) or 0: result for result in results}
        with session.write() as transaction:
            for number, item in transaction.sent(by_number).items():
                if item.batch == batch.token:  # else it was booked before
                    booking.book(transaction, item, by_number[number], terms, session.now_us, session.tally)
            session.count(transaction)
        reasons = [result.reason for result in results if isinstance(result, Refusal) and result.about_all]
        if reasons:
            refused = JudgeAuthError("score with the model", batch.model, reasons[-1], hint=_REFUSED_HINT)
            if batch.model == session.policy.model:
                self._refused = refused
            else:
                session.run.trouble(refused)

    def _close(self, batch: OpenBatch, state: str) -> None:
        """Let tasks that came back without a result wait again, step by step, and end the batch."""
        session = self._session
        terms = session.terms(batch.model, is_batch=True, day=_day_of(batch))
        while True:
            with session.write() as transaction:
                rest = transaction.sent_in(batch.token, _BOOKED_AT_ONCE)
                for item in rest:
                    self._give_up(transaction, item, terms, is_lost=state == "lost")
                if len(rest) < _BOOKED_AT_ONCE:
                    transaction.end_batch(batch.token, state)
                session.count(transaction)
            if len(rest) < _BOOKED_AT_ONCE:
                return

    def _give_up(self, transaction: ScoringTransaction, item: Sent, terms: booking.Terms, *, is_lost: bool) -> None:
        if is_lost:
            booking.lose(transaction, item, _GONE, terms, self._session.tally)
        else:
            booking.again(transaction, item, _NO_RESULT, terms, self._session.tally)


@contextmanager
def _about_one() -> Iterator[None]:
    """Set apart what the provider says of one batch from what concerns all that are asked for."""
    try:
        yield
    except (JudgeAuthError, JudgeBusyError, JudgeMissingError):
        raise
    except BoundaryError as error:
        raise _UnclearError(error) from error


async def _portion(
    results: AsyncGenerator[Answer | Refusal, None], *, has_begun: bool
) -> tuple[list[Answer | Refusal], _UnclearError | None]:
    """Return the next results, as many as are booked at once, and what kept the others from being read.

    A provider that has just told of the batch is busy where it says for how long, before results begin to come; where
    it does not give them, or they break off, that may be of this batch alone.
    """
    found: list[Answer | Refusal] = []
    try:
        with _about_one():
            async for result in results:
                found.append(result)
                if len(found) == _BOOKED_AT_ONCE:
                    break
    except _UnclearError as unclear:
        return found, unclear
    except JudgeBusyError as error:
        if not (found or has_begun) and error.retry_after_s is not None:
            raise
        return found, _UnclearError(error)
    return found, None


def _day_of(batch: OpenBatch) -> int:
    """Return the UTC day on which a batch was sent, whose price it has."""
    return instants.day_number(instants.from_us(batch.intended_us))


def _drop(transaction: ScoringTransaction, token: str) -> None:
    """Forget a batch that was never taken."""
    transaction.release_batch(token)
    transaction.end_batch(token, "lost")
