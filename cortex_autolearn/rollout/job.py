"""Rollout with the state, real files and real backends: deploy, test, decide, apply; and what a person asks for.

A run offers new models to their masters, deploys what waits, starts tests, follows those that run and writes the files
that follow from the state. Every step is one transaction, and the files come after it: a kill at any line leaves what
the next run completes. What the steps mean is ``registry``'s, ``outcomes``' and ``decide``'s business.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cortex_autolearn.model import instants, layout, routing
from cortex_autolearn.model.experiments import Held
from cortex_autolearn.ports import BoundaryError, OutputDamagedError
from cortex_autolearn.rollout import files as documents
from cortex_autolearn.rollout.deploy import Deployer
from cortex_autolearn.rollout.endpoints import Endpoints
from cortex_autolearn.rollout.follow import Follower
from cortex_autolearn.rollout.late import Late
from cortex_autolearn.rollout.project import Projector, read
from cortex_autolearn.rollout.registry import Refused, Unchanged
from cortex_autolearn.rollout.steps import Desk, Done, Result, held_for, queued_for
from cortex_autolearn.rollout.waiting import waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cortex_autolearn.canonical import Readers
    from cortex_autolearn.model.experiments import Experiment
    from cortex_autolearn.model.rollout_policy import RolloutPolicy
    from cortex_autolearn.ports import Clock, Files, RunHandle, Trainer
    from cortex_autolearn.rollout.needs import RolloutReading, RolloutStore
    from cortex_autolearn.rollout.trials import Course

_ROUNDS: Final = 100
_PERSON_IN_FILE: Final = "a person, in the test's file"


class Rollout:
    """Rollout over one ROOT.

    Arguments:
        store: the state.
        files: the tree below ROOT.
        clock: tells the time.
        policy: the ``[rollout]`` section.
        readers: gives the reader of a file's records, for silver that Cortex wrote.
        trainers: the backends by name, which serve what they trained.
        taken_in: tells the instant (in microseconds) up to which the fleet's records are in the state: no outcome that
            is only unread makes its task a failure.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a room works with, handed in once
        self,
        store: RolloutStore,
        files: Files,
        clock: Clock,
        policy: RolloutPolicy,
        readers: Readers,
        trainers: Mapping[str, Trainer],
        taken_in: Callable[[], int],
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._policy = policy
        self._readers = readers
        self._endpoints = Endpoints(store, clock, trainers)
        self._deployer = Deployer(store, files, clock, policy)
        self._taken_in = taken_in
        self._follower = Follower(store, files, clock, readers, self._deployer.is_taken)
        self._late = Late(store, files, clock, readers)
        self._projector = Projector(files, clock)

    def run(self, run: RunHandle) -> dict[str, Any]:
        """Bring everything as far as it is; return what was done, by kind."""
        self._store.flush_events()  # of a run that was killed before it could
        self._readers.refresh()
        counts: Counter[str] = Counter()
        self._deployer.begun.clear()
        self._deployer.troubles.clear()
        self._follower.troubles.clear()
        self._deployer.offer(run, counts)
        for _ in range(_ROUNDS):
            changed = self._deployer.begin(counts)
            changed |= self._endpoints.tend(run, self._routed())
            changed |= self._deployer.start(counts)
            if changed:
                self.show()  # traffic moves before anything else takes time
            changed |= self._follow(counts)
            if not changed:
                break
        self._late.take(run, counts)
        counts["files"] = self.show()
        troubles = [*self._deployer.troubles.values(), *self._follower.troubles, *self._projector.troubles]
        for error in {str(one): one for one in troubles}.values():
            run.trouble(error)
        begun = {"begun": list(self._deployer.begun)} if self._deployer.begun else {}
        return {key: value for key, value in sorted(counts.items()) if value} | begun

    def is_waiting(self) -> bool:
        """Tell whether there is anything for :meth:`run` to do now."""
        now_us = self._now_us()
        with self._store.read() as reading:
            if reading.models_to_offer() or self._endpoints.wait(reading):
                return True
            if any(self._deployer.is_free(reading, one) for one in {one.master for one in reading.deploy_queue()}):
                return True
            tests = reading.experiments(only_active=True)
            taken_in = cache(self._taken_in)
            if any(waits(reading, self._files, test, now_us, taken_in) for test in tests):
                return True
            return not self._projector.is_current(reading)  # last: it reads the files of all tests there ever were

    def masters_under_test(self) -> dict[str, int]:
        """Return the masters of which a test or a watch runs, or is paused, and since when."""
        with self._store.read() as reading:
            return reading.masters_under_test()

    def _routed(self) -> set[str]:
        """Return the versions that callers are sent to by the routes as they are written.

        After a kill, or while the disk refuses, these are behind the state.
        """
        try:
            found = read(self._files, layout.ROUTES)
            routes = {} if found is None else routing.routes_of(found)
        except (BoundaryError, ValueError):
            return set()  # nobody can read it, and this run writes it anew
        arms = [arm for route in routes.values() for arm in (route.champion, route.challenger)]
        return {arm.version for arm in arms if arm is not None}

    def show(self, moved: str | None = None) -> int:
        """Write what follows from the state; return how many files were.

        Of a test that has ``moved`` and goes on that is its own file: nothing else changes before it ends.
        """
        with self._store.write() as transaction:  # so that nobody moves the state meanwhile
            test = None if moved is None else transaction.experiment(moved)
            return self._projector.show(transaction, test if test is not None and test.is_active else None)

    # --- what a person asks for ---------------------------------------------------------------------------------------

    def deploy(self, model_id: str, master: str, *, by: str, why: str, dry_run: bool = False) -> Result:
        """Have a model tested for a master; it waits while another one is.

        Arguments:
            model_id: the model.
            master: its name, with ``-master`` or without.
            by: who asks.
            why: their reason.
            dry_run: only say what would be done.
        """
        name = layout.master_name(master)
        if name is None:
            return Refused(f"{master!r} cannot be the name of a master")
        result = self._at_desk(
            lambda desk, reading: desk.deploy(self._deployer.held(reading, name), model_id), by, why, dry_run=dry_run
        )
        if isinstance(result, Done):
            with self._store.read() as reading:
                outlook = self._deployer.outlook(reading, self._deployer.held(reading, name))
            return result._replace(details=result.details | outlook)
        return result

    def promote(self, master: str, *, by: str, why: str) -> Result:
        """Let the challenger of a master become its champion, whatever its test shows so far."""
        return self._of_master(master, Desk.promote, by, why)

    def rollback(self, master: str, *, by: str, why: str, to: str | None = None) -> Result:
        """Give all tasks of a master to its champion, or let an earlier champion come back."""
        return self._of_master(master, lambda desk, held: desk.roll_back(held, to), by, why)

    def pause(self, test_id: str, *, by: str, why: str) -> Result:
        """Give all tasks to the champion for now."""
        return self._of_test(test_id, "pause", Desk.pause, by, why)

    def resume(self, test_id: str, *, by: str, why: str) -> Result:
        """Let a paused test go on."""
        return self._of_test(test_id, "resume", Desk.resume, by, why)

    def abort(self, test_id: str, *, by: str, why: str) -> Result:
        """Give a test up, whatever it showed; or the wait of a model for it."""
        return self._of_test(test_id, "abort", Desk.abort, by, why)

    def _of_master(self, master: str, step: Callable[[Desk, Held], Result], by: str, why: str) -> Result:
        name = layout.master_name(master)

        def asked(desk: Desk, reading: RolloutReading) -> Result:
            held = None if name is None else reading.serving(name)
            return Refused(f"nothing was ever deployed for {master}") if held is None else step(desk, held)

        return self._at_desk(asked, by, why)

    def _of_test(self, test_id: str, verb: str, step: Callable[[Desk, Held], Result], by: str, why: str) -> Result:
        def asked(desk: Desk, reading: RolloutReading) -> Result:
            held = held_for(reading, test_id)
            if held is not None:
                return step(desk, held)
            queued = queued_for(reading, test_id) if verb == "abort" else None
            if queued is not None:
                return desk.withdraw(queued)
            test = reading.experiment(test_id)
            if test is None:
                return Refused(f"there is no test {test_id!r}")
            ended = f"{test_id} has ended ({test.ending}) at {instants.us_to_text(test.ended_us)}"
            return Unchanged(ended) if test.ending == verb else Refused(ended)

        return self._at_desk(asked, by, why)

    def _at_desk(
        self,
        step: Callable[[Desk, RolloutReading], Result],
        by: str,
        why: str,
        *,
        dry_run: bool = False,
        **told: object,
    ) -> Result:
        """Take a person's step in one transaction, and write what follows from it."""
        try:
            with self._store.write() as transaction:
                desk = Desk(
                    transaction,
                    self._now_us(),
                    by=by,
                    why=why,
                    course=self._course,
                    is_taken=self._deployer.is_taken,
                    told=told,
                )
                result = step(desk, transaction)
                if dry_run:
                    raise _OnlyAskedError(result)
        except _OnlyAskedError as asked:
            return asked.result
        if isinstance(result, Done):
            self.show()
        return result

    def _course(self, reading: RolloutReading, test: Experiment) -> Course:
        return self._follower.course(reading, test)

    # --- following ----------------------------------------------------------------------------------------------------

    def _follow(self, counts: Counter[str]) -> bool:
        with self._store.read() as reading:
            tests = reading.experiments(only_active=True)
        self._follower.keep_only(tests)
        # Asked once, and first: what was known by then is looked at before a window closes.
        until_us = self._taken_in() if tests else 0
        changed = False
        for test in tests:
            try:
                moved = self._hear(test, counts) or self._follower.follow(test.test_id, until_us, counts)
            except OutputDamagedError:
                raise  # the medallion mends it
            except BoundaryError as error:  # of silver that Cortex wrote, say: no other test waits for this one's
                self._follower.troubles.append(error)
                continue
            if moved:
                self.show(test.test_id)  # no test waits for another one's to be over
            changed |= moved
        return changed

    def _hear(self, test: Experiment, counts: Counter[str]) -> bool:
        """Honour the word of a person who stopped a test in its file."""
        try:
            winner = documents.manual_stop(read(self._files, layout.test_file(test.test_id)), test)
        except BoundaryError:
            return False  # the projector tells of it
        if winner is None:
            return False

        def stopped(desk: Desk, reading: RolloutReading) -> Result:
            held = held_for(reading, test.test_id)
            if held is None:
                return Refused("it has ended")
            if test.kind == "watch":
                return desk.settle(held) if winner == "a" else desk.roll_back(held, None)
            return desk.promote(held) if winner == "b" else desk.roll_back(held, None)

        result = self._at_desk(stopped, _PERSON_IN_FILE, f"stopped there, with {winner} as the winner", in_file=True)
        counts["stopped in file"] += isinstance(result, Done)
        return isinstance(result, Done)

    def _now_us(self) -> int:
        return instants.to_us(self._clock.now())


class _OnlyAskedError(Exception):
    """Ends the transaction of a step that was only asked about, so that nothing of it stays."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result
