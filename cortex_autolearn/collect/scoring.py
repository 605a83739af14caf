"""Scoring with the state, real files and a real judge: choose, ask, book what comes back.

What is to be judged waits in a queue of the state. Many waiting tasks go out in batches, which cost half; few are asked
about one by one. Either way it is noted what is sent, and what it may cost, before it is sent, and each result is
stored with what it cost as it comes: so nothing that was answered is asked again, and no budget is exceeded. Only
single calls whose answer got lost, by a kill or by a connection that broke, are asked twice, and the first asking is
booked at the most it can have cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cortex_autolearn.collect import booking, money, score, tally
from cortex_autolearn.collect.asking import Asking
from cortex_autolearn.collect.batches import Batches
from cortex_autolearn.collect.preview import Preview, Rules, preview, set_aside
from cortex_autolearn.collect.sending import Sender
from cortex_autolearn.collect.session import Session
from cortex_autolearn.collect.tally import Tally
from cortex_autolearn.model import instants
from cortex_autolearn.ports import BoundaryError, JudgeBusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cortex_autolearn.canonical import Readers
    from cortex_autolearn.collect.needs import ScoringStore, ScoringTransaction
    from cortex_autolearn.model.judge_policy import JudgePolicy
    from cortex_autolearn.model.judging import Candidate
    from cortex_autolearn.model.policy import GatePolicy
    from cortex_autolearn.model.rubric import Rubrics
    from cortex_autolearn.ports import Clock, Files, Judge, RunHandle

_CHOSEN_AT_ONCE: Final = 5_000
_LOST_AT_ONCE: Final = 200
_RETRY_S: Final = 60.0
_LONGEST_WAIT_S: Final = 3_600.0
"""So long a busy provider is left alone at most, whatever it says, and however the clock was set meanwhile."""
_PUNCTUAL: Final = 0.9
"""A run that comes for the sake of a look may be so early."""
_LOST: Final = "its process was killed while it was under way"
_REFUSED: Final = {"retired": "it is retired", "unknown": "its provider does not know it"}


class Scorer:
    """Scoring over one ROOT.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        gate: the ``[collect]`` section.
        policy: the ``[judge]`` section.
        rubrics: reads by what to score.
        readers: gives the reader of a file's records, for silver that Cortex wrote.
        judge: makes the judge, when it is first needed; None where there is no key.
        under_test: tells of which masters an A/B test runs, and since when.
    """

    def __init__(
        self,
        store: ScoringStore,
        files: Files,
        clock: Clock,
        gate: GatePolicy,
        policy: JudgePolicy,
        rubrics: Callable[[], Rubrics],
        readers: Readers,
        judge: Callable[[], Judge] | None,
        under_test: Callable[[], Mapping[str, int]] = lambda: score.NOT_TESTED,
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._gate = gate
        self._policy = policy
        self._read_rubrics = rubrics
        self._readers = readers
        self._make_judge = judge
        self._under_test = under_test
        self._looked_us: int | None = None  # when this process looked at batches last

    @property
    def can_ask(self) -> bool:
        """Whether there is a judge that may be asked."""
        return self._policy.enabled and self._make_judge is not None

    def run(
        self,
        run: RunHandle,
        *,
        limit: int | None = None,
        rescore: bool = False,
        again: Collection[str] | None = None,
        calibrate: int = 0,
    ) -> Tally:
        """Choose what is to be judged, take in what batches have brought, and send what the budgets allow.

        Arguments:
            limit: the most tasks to send.
            rescore: also judge tasks again whose score is of another model or rubric.
            again: also try these tasks anew that were set aside; empty for all of them.
            calibrate: also judge so many tasks that people or the fleet have scored, to compare.

        Raises:
            JudgeAuthError: the provider refuses the key.
            BoundaryError: the model cannot be used or has no price, or the provider's answer makes no sense.
        """
        done = Tally()
        self._readers.refresh()
        self.choose(run, done)
        if rescore:
            self._choose_again(limit, done)
        if again is not None:
            with self._store.write() as transaction:
                items = set_aside(transaction, again)[:limit]  # what is tried anew, the daemon goes on with by itself
                transaction.wait_again([item.id for item in items])
                done.chosen += len(items)
        if calibrate:
            with self._store.write() as transaction:
                done.chosen += transaction.enqueue(transaction.to_calibrate(calibrate), forced=True)
        done.held = self._hindrance()
        try:
            if not done.held and self._has_work():
                # Here, for asyncio takes longer to import than most commands take.
                from cortex_autolearn.collect.loop import complete  # noqa: PLC0415

                complete(self._judge_all(run, done, limit), run)
        finally:
            with self._store.write() as transaction:
                done.waiting = transaction.count_waiting()
                done.in_batches = transaction.count_sent()
                transaction.count_run(run.run_id, done.as_dict())
        return done

    def preview(
        self, *, limit: int | None = None, rescore: bool = False, again: Collection[str] | None = None
    ) -> Preview:
        """Return what a run would do and cost; nothing is sent or changed.

        Raises:
            BoundaryError: the model has no price, or a rubric cannot be read.
        """
        self._readers.refresh()
        today = instants.day_number(self._clock.now())
        price = money.price_of(self._policy.model, today, self._policy.prices)
        if price is None:
            raise _no_price(self._policy.model)
        rules = Rules(self._gate, self._policy, self._read_rubrics(), self._under_test(), price, today)
        held = self._hindrance()
        with self._store.read() as reading:
            return preview(reading, self.asking(), rules, limit, held, rescore=rescore, again=again)

    def asking(self) -> Asking:
        """Return what makes the questions."""
        return Asking(
            self._files,
            self._readers,
            self._gate,
            self._read_rubrics(),
            self._policy.max_text_chars,
            self._under_test(),
        )

    def choose(self, run: RunHandle, done: Tally) -> None:
        """Put what is to be judged into the queue, of the tasks that came since the last time."""
        under_test = self._under_test()
        rules = score.rules(self._gate, under_test)
        while True:
            with self._store.write() as transaction:
                after, chosen_by = transaction.chosen()
                after = after if chosen_by == rules else 0
                until = transaction.last_task()
                if after == until and chosen_by == rules:
                    return
                rows = transaction.candidates(after, until, _CHOSEN_AT_ONCE, under_test)
                reached = rows[-1].id if len(rows) == _CHOSEN_AT_ONCE else until
                done.chosen += transaction.enqueue(self._new(transaction, rows, under_test))
                transaction.set_chosen(reached, rules)
                transaction.count_run(run.run_id, done.as_dict())

    def _new(
        self, transaction: ScoringTransaction, rows: list[Candidate], under_test: Mapping[str, int]
    ) -> list[tuple[str, int, int]]:
        """Return the records among these that are to be judged and were not."""
        wanted = [row for row in rows if score.wanted(row, self._gate, under_test)]
        judged = transaction.judged([row.task_id for row in wanted])
        found = []
        for row in wanted:
            old = judged.get(row.task_id)
            if old is None or (old.source, old.source_offset) != (row.source, row.source_offset):
                found.append((row.task_id, row.source, row.source_offset))
        return found

    def _choose_again(self, limit: int | None, done: Tally) -> None:
        """Put tasks into the queue whose score is of another model or rubric."""
        after, left, versions = "", limit, self._read_rubrics().versions()
        while left is None or left > 0:
            at_once = _CHOSEN_AT_ONCE if left is None else min(left, _CHOSEN_AT_ONCE)
            with self._store.write() as transaction:
                task_ids = transaction.to_rescore(self._policy.model, versions, after, at_once)
                done.chosen += transaction.enqueue([(task_id, 0, 0) for task_id in task_ids], forced=True)
            if not task_ids:
                return
            after, left = task_ids[-1], None if left is None else left - len(task_ids)

    def _hindrance(self) -> str:
        """Return why the judge is not to be asked now, or nothing."""
        if not self._policy.enabled:
            return tally.DISABLED
        if self._make_judge is None:
            return tally.NO_KEY
        with self._store.read() as reading:
            until_us = reading.judge_note("busy").get("until_us", 0)
        left_us = int(str(until_us)) - instants.to_us(self._clock.now())
        return tally.BUSY if 0 < left_us <= _LONGEST_WAIT_S * instants.SECOND_US else ""

    def _has_work(self) -> bool:
        with self._store.read() as reading:
            return bool(reading.count_waiting() or reading.open_batches() or reading.sent_alone(1))

    async def _judge_all(self, run: RunHandle, done: Tally, limit: int | None) -> None:
        assert self._make_judge is not None
        judge = self._make_judge()
        asking = self.asking()
        session = Session(self._store, self._clock, self._policy, judge, asking, run, done, limit)
        try:
            self._book_lost(session)
            is_sure = await Batches(session).follow(is_look_due=self._is_look_due())
            with self._store.read() as reading:
                waits = reading.count_waiting() > 0
            if not is_sure:
                done.held = tally.UNSURE
            elif waits and not run.is_ending():
                takes_batches = await self._check_model(session)
                await Sender(session).send(takes_batches=takes_batches)
        except JudgeBusyError as error:
            run.trouble(error)
            done.held = tally.BUSY
            wait_us = round(min(error.retry_after_s or _RETRY_S, _LONGEST_WAIT_S) * instants.SECOND_US)
            with self._store.write() as transaction:
                transaction.set_judge_note("busy", {"until_us": session.now_us + wait_us})
        finally:
            done.redactions.update(asking.redactions)
            await judge.close()

    def _is_look_due(self) -> bool:
        """Tell whether to look at the batches under way, and note it: runs come with each collection, looks seldom."""
        now_us = instants.to_us(self._clock.now())
        pause_us = _PUNCTUAL * self._policy.poll_s * instants.SECOND_US
        if self._looked_us is not None and 0 <= now_us - self._looked_us < pause_us:
            return False  # before 0: the clock was set back since
        self._looked_us = now_us
        return True

    def _book_lost(self, session: Session) -> None:
        """Let the tasks wait again whose single call was under way when its process was killed."""
        terms = session.terms(self._policy.model, is_batch=False)
        while True:
            with session.write() as transaction:
                lost = transaction.sent_alone(_LOST_AT_ONCE)
                for item in lost:
                    booking.lose(transaction, item, _LOST, terms, session.tally)
                if lost:
                    session.count(transaction)
            if len(lost) < _LOST_AT_ONCE:
                return

    async def _check_model(self, session: Session) -> bool:
        """Make sure that the model can be used, and tell whether it takes batches; what its provider says is kept.

        Raises:
            BoundaryError: it is retired or unknown, cannot answer in a form, or has no price.
        """
        model = self._policy.model
        life = await session.judge.life(model)
        with self._store.write() as transaction:
            transaction.set_judge_note("model", life._asdict() | {"model": model, "looked_us": session.now_us})
        cause = _REFUSED.get(life.state, "")
        if not cause and "structured_outputs" in life.lacks:
            cause = "it cannot answer in a given form"
        if cause:
            hint = "Set judge.model to a current one"
            raise BoundaryError("score with the model", model, cause, hint=hint, retryable=False)
        if session.terms(model, is_batch=False).price is None:
            raise _no_price(model)
        return "batch" not in life.lacks


def _no_price(model: str) -> BoundaryError:
    hint = "Declare it with [[judge.prices]]: without, no budget holds"
    return BoundaryError("score with the model", model, "no price is known for it", hint=hint, retryable=False)
