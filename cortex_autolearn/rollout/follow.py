"""Follows one test that runs: takes in what it is told, closes windows, decides after each, and applies at once.

One transaction takes in a portion with all that follows from it, a decision included; so a kill loses nothing, and the
next run goes on where this one was. The rules are ``outcomes``', ``trials``' and ``decide``'s.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.model import instants, layout
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.rollout import decide, outcomes
from cortex_autolearn.rollout.apply import DAEMON, keep, take
from cortex_autolearn.rollout.files import is_paused
from cortex_autolearn.rollout.intake import Silver, Unfit, read_results
from cortex_autolearn.rollout.orders import new_watch, order_of
from cortex_autolearn.rollout.trials import Course, ends
from cortex_autolearn.rollout.waiting import has_resumed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from cortex_autolearn.canonical import Readers
    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.model.rollout import Decision, WatchDecision
    from cortex_autolearn.ports import Clock, Files
    from cortex_autolearn.rollout.needs import RolloutReading, RolloutStore, RolloutTransaction
    from cortex_autolearn.rollout.outcomes import Reading

ROWS_AT_ONCE: Final = 500
WINDOWS_AT_ONCE: Final = 5_000


class _Portion(NamedTuple):
    """What a portion took in: whether there was anything, and what changes of the test besides its course."""

    any: bool
    changes: dict[str, object]


class Moved(NamedTuple):
    """What came of a portion: whether there was anything, and whether the test ended."""

    any: bool
    ended: bool = False


class Follower:
    """Follows the tests over one ROOT; keeps the evidence of those that run, as long as nobody else moves them.

    A results file that cannot be read hinders nothing else; ``troubles`` tells of it.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        readers: gives the reader of a file's records, for silver that Cortex wrote.
        is_taken: tells whether a test of this name exists, ours or not.
    """

    def __init__(
        self,
        store: RolloutStore,
        files: Files,
        clock: Clock,
        readers: Readers,
        is_taken: Callable[[RolloutReading, str], bool],
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._readers = readers
        self._is_taken = is_taken
        self._courses: dict[str, Course] = {}
        self._rescored: list[tuple[str, float | None]] = []
        self.troubles: list[BoundaryError] = []

    def follow(self, test_id: str, until_us: int, counts: Counter[str]) -> bool:
        """Take in all there is for a test, until it ends; tell whether anything changed.

        Arguments:
            test_id: the test.
            until_us: up to when the fleet's records were in the state before: no window closes after it.
            counts: what is done is added to them.
        """
        changed = False
        self._rescored = []
        for portion in (self._silver, self._results, self._scores, self._windows):
            while True:
                moved = self._step(test_id, portion, until_us, counts)
                changed |= moved.any
                if moved.ended:
                    return True
                if not moved.any:
                    break
        return changed

    def keep_only(self, tests: Collection[Experiment]) -> None:
        """Let go of the evidence of all other tests: a person ended them, here or in another process."""
        running = {test.test_id for test in tests}
        self._courses = {test_id: course for test_id, course in self._courses.items() if test_id in running}

    def course(self, reading: RolloutReading, test: Experiment) -> Course:
        """Return a test's course as it stands."""
        known = self._courses.get(test.test_id)
        if known is not None and known.test == test:
            return known
        return Course(test, reading.trials(test.test_id))

    def _step(
        self,
        test_id: str,
        portion: Callable[[RolloutTransaction, _Look, Counter[str]], _Portion | None],
        until_us: int,
        counts: Counter[str],
    ) -> Moved:
        """Take in one portion and what follows from it, in one transaction."""
        done: Counter[str] = Counter()
        try:
            with self._store.write() as transaction:
                test = transaction.experiment(test_id)
                if test is None or not test.is_active:
                    return Moved(any=False, ended=True)
                course = self._courses[test_id] = self.course(transaction, test)
                look = _Look(course, self._now_us(), until_us)
                found = portion(transaction, look, done)
                if found is None:
                    return Moved(any=False)
                transaction.put_trials(test_id, course.changed_rows())
                ended = self._settle(transaction, look, found.changes, done)
        except BaseException:
            self._courses.pop(test_id, None)  # it may be ahead of what is stored
            raise
        counts.update(done)
        return Moved(found.any or ended, ended)

    # --- portions -----------------------------------------------------------------------------------------------------

    def _silver(self, transaction: RolloutTransaction, look: _Look, done: Counter[str]) -> _Portion | None:
        test, until = look.course.test, transaction.last_task()
        if test.seen >= until:
            return None
        rows = transaction.seen_tasks(test, until, ROWS_AT_ONCE)
        reached, refused = until if len(rows) < ROWS_AT_ONCE else rows[-1].id, Counter(test.refused)
        with closing(Silver(self._files, self._readers)) as silver:
            for row in rows:
                reading = outcomes.of_silver(silver.record(row), test, look.now_us)
                if _take(look, reading, refused, done):
                    reached = row.id
                    break
        return _Portion(bool(rows), {"seen": reached, "refused": dict(refused)})

    def _results(self, transaction: RolloutTransaction, look: _Look, done: Counter[str]) -> _Portion | None:
        test = look.course.test
        try:
            found = read_results(self._files, test.test_id, test.results)
        except BoundaryError as error:
            self.troubles.append(error)
            return None
        if found is None:
            return None
        refused, unfit = Counter(test.refused), list(found.broken)
        readings = [outcomes.of_results(fields, test, look.now_us) for _, _, fields in found.objects]
        # A line that is read again must not bring back the score that a person's has taken the place of.
        ended = [one.outcome.task_id for one in readings if isinstance(one, outcomes.Finished)]
        beside = transaction.scores_beside(ended)
        for (offset, text, _), told in zip(found.objects, readings, strict=True):
            reading = told
            if isinstance(reading, outcomes.Finished):
                reading = reading.scored(*beside.get(reading.outcome.task_id, (None, None)))
            if isinstance(reading, outcomes.Refused):
                unfit.append(Unfit(offset, len(text), reading.reason, text))
            elif _take(look, reading, refused, done):
                # The rest of the portion is late: it is read again from here, for the report.
                return _Portion(any=True, changes={"refused": dict(refused)})
        refused += quarantine(transaction, test, sorted(unfit), look.now_us)
        changes: dict[str, object] = {"results": found.cursor, "refused": dict(refused)}
        return _Portion(bool(found.objects or unfit or found.has_more), changes)

    def _scores(self, transaction: RolloutTransaction, look: _Look, done: Counter[str]) -> _Portion | None:
        rescored = transaction.rescored(look.course.test.test_id)
        if not rescored or rescored == self._rescored:
            return None
        self._rescored = rescored
        for task_id, quality in rescored:
            look.course.rescore(task_id, quality)
            done["rescored"] += 1
            if look.after():
                break
        return _Portion(any=True, changes={})

    def _windows(self, _: RolloutTransaction, look: _Look, done: Counter[str]) -> _Portion | None:
        course, closed = look.course, 0
        for _closed in course.closing(look.until_us):
            closed += 1
            if look.after() or closed >= WINDOWS_AT_ONCE:
                break
        else:
            look.after(look.until_us)  # days end a test when all that came in them is counted, not before
        done["closed"] += closed
        test, closing_us = course.test, course.evidence.next_closing_us
        is_due = look.until_us - test.looked_us >= instants.DAY_US or has_resumed(test) or look.decided is not None
        if not closed and closing_us == test.closing_us and not is_due:
            return None
        return _Portion(bool(closed), {})

    # --- what follows -------------------------------------------------------------------------------------------------

    def _settle(
        self, transaction: RolloutTransaction, look: _Look, changes: dict[str, object], done: Counter[str]
    ) -> bool:
        """Store a test as it stands, with what was decided; tell whether it ended."""
        before = look.course.test
        test = look.course.stored(look.now_us, **changes)
        decision = look.decided
        if decision is not None:
            held = transaction.serving(test.master)
            assert held is not None
            order = order_of(decision, test, look.now_us, lambda: self._watch(transaction, test))
            taken = take(transaction, held, order)
            done[f"decided {type(decision).__name__.lower()}"] += 1
            self._courses.pop(test.test_id, None)
            assert not hasattr(taken, "reason"), taken
            return True
        transaction.put_experiment(test)
        has_rung = test.is_held and set(test.alarms) > set(before.alarms)
        alarmed = decide.held(look.course.evidence.numbers()) if has_rung else None
        if alarmed is not None:  # also while it is paused, though nothing is decided then
            told = {"test_id": test.test_id, "master": test.master, "alarms": list(test.alarms)}
            reasons = [one.text for one in alarmed.reasons]
            keep(transaction, transaction.event("ab_test_held", **told, reasons=reasons), test, alarmed, look.now_us)
            done["held"] += 1
        return False

    def _watch(self, transaction: RolloutTransaction, test: Experiment) -> Experiment:
        return new_watch(transaction, test, self._is_taken, self._now_us(), DAEMON)

    def _now_us(self) -> int:
        return instants.to_us(self._clock.now())


class _Look:
    """Looks at a test after everything that comes, and keeps what was decided."""

    def __init__(self, course: Course, now_us: int, until_us: int) -> None:
        self.course = course
        self.now_us = now_us
        self.until_us = min(until_us, now_us)
        self.decided: Decision | WatchDecision | None = None
        self._is_paused = is_paused(course.test)

    def after(self, until_us: int | None = None) -> bool:
        """Look; tell whether the test ends. While it is paused, only a person ends it.

        Its days end it only where ``until_us`` tells up to when everything is taken in.
        """
        if self._is_paused:
            return False
        decision = self.course.decision(self.course.test.started_us if until_us is None else until_us)
        if ends(decision):
            self.decided = decision
        return self.decided is not None


def _take(look: _Look, reading: Reading | None, refused: Counter[str], done: Counter[str]) -> bool:
    """Follow one reading, and tell whether what follows from it ends the test."""
    if reading is None:
        return False
    if isinstance(reading, outcomes.Void) and reading.reason:
        refused[reading.reason] += 1
        done["refused"] += 1
    look.course.take(reading)
    done["outcomes"] += isinstance(reading, outcomes.Finished)
    return look.after()


def quarantine(transaction: RolloutTransaction, test: Experiment, unfit: Iterable[Unfit], now_us: int) -> Counter[str]:
    """Keep what is no outcome, once, and count it by reason."""
    path, counts, lines = layout.results_file(test.test_id), Counter[str](), []
    for one in unfit:
        if transaction.note_quarantined(path, one.offset, one.length, one.reason, one.digest):
            counts[one.reason] += 1
            lines.append(one.line(path))
    if lines:
        day = instants.day_number(instants.from_us(now_us))
        transaction.append(layout.quarantine_file(day), b"".join(lines))
    return counts
