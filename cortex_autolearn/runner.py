"""Runs one job once, whoever asks: its lock, its run record, its event and its log lines.

What a job does is known to ``jobs``; when it is due to ``slots`` and the daemon. Everything here blocks: the daemon
calls it in a thread. A job that fails is recorded and logged, and is no reason to stop anything.

Every change of the state is covered by exactly one event: that of the run that made it, or, where that run was killed,
the one that the next run of the job writes for it.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from cortex_autolearn import jobs
from cortex_autolearn.adapters.lock import FileLock
from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.runs import Run
from cortex_autolearn.ports import BackendError, BoundaryError, JudgeBusyError, JudgeMissingError, JudgeUnsureError
from cortex_autolearn.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from cortex_autolearn.adapters.observe import Log
    from cortex_autolearn.adapters.store import Store, Transaction
    from cortex_autolearn.adapters.tree import Tree
    from cortex_autolearn.jobs import Rooms
    from cortex_autolearn.ports import Clock

JOBS: Final = ("silver", "medallion", "collection", "scoring", "readiness", "training", "rollout", "status")
LOCKS: Final = {"silver": "medallion", "readiness": "training"}
"""The lock of each job that shares one with another; every other job's lock bears its own name."""

_SAY_WAITING_S: Final = 1.0
_SAY_PROGRESS_S: Final = 10.0
_WAIT_STEP_S: Final = 0.02
_TROUBLES_KEPT: Final = 20

Ending = Literal["ok", "failed", "interrupted"]


class Result(NamedTuple):
    """What became of one run. ``error`` is what it failed of; ``counts`` then holds what it did before."""

    run_id: str
    job: str
    result: Literal["ok", "failed"]
    counts: dict[str, Any]
    duration_s: float
    error: BaseException | None


class WaitAbandonedError(Exception):
    """The process is to end, and the job was still waiting for another process's run of it."""


class Unrecorded:
    """A run of which nothing is recorded, for whoever calls a room directly."""

    run_id = ""

    def progress(self, done: int, total: int) -> None:
        """Say nothing."""

    def trouble(self, error: BoundaryError) -> None:
        """Say nothing."""

    def is_ending(self) -> bool:
        """Return False: whoever calls a room directly ends it himself."""
        return False


class Runner:
    """Runs jobs. Safe from many threads, and from many processes on one ROOT: a job never runs twice at once.

    Arguments:
        store: the state.
        tree: the files below ROOT.
        clock: tells the time.
        log: what every run's lines are written to.
        rooms: what the jobs work with; see :meth:`use`.
    """

    def __init__(self, store: Store, tree: Tree, clock: Clock, log: Log, rooms: Rooms) -> None:
        self._store = store
        self._tree = tree
        self._clock = clock
        self._log = log
        self._rooms = rooms
        self._is_ending = threading.Event()

    def run(
        self,
        job: str,
        *,
        trigger: str,
        slot: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        raise_errors: bool = False,
        **options: Any,  # noqa: ANN401 - each job's own
    ) -> Result:
        """Run a job once, after whoever runs it now.

        Arguments:
            job: one of :data:`JOBS`.
            trigger: what started it: ``schedule``, ``watcher``, ``command``, …; the schedule's runs also tidy up.
            slot: the slot of the schedule that this run stands for.
            progress: called now and then with what is done and what there is to do, in the job's own unit.
            raise_errors: let what the job failed of pass through, once it is recorded, instead of logging it.
            options: the job's own; see ``jobs``.

        Raises:
            WaitAbandonedError: with ``raise_errors`` only.
        """
        body = jobs.BODIES[job]
        asked = Run(self._new_id(), job, trigger, slot, 0, None, None, {})
        recorded = _Recorded(asked, self._log.bind(**_keys(asked)), progress, self._is_ending.is_set)
        began = self._clock.monotonic()
        with FileLock(self._tree.path(lock_file(job))) as lock:
            try:
                self._wait_for(lock, recorded.log)
                began = self._clock.monotonic()
                self._begin(recorded, asked, options)
                recorded.log.info("job_started")
                counts = body(self._rooms, recorded, **options)
                counts |= {"troubles": recorded.troubles} if recorded.troubles else {}
                counts["duration_seconds"] = round(self._clock.monotonic() - began, 3)
                with self._store.write() as transaction:
                    transaction.count_run(asked.run_id, counts)
                    ending: Ending = "interrupted" if counts.get(jobs.BROKEN_OFF) else "ok"
                    self._end(transaction, asked._replace(counts=counts), ending)
            except Exception as error:
                partial = self._note_failure(recorded, job, "failed", error)
                if raise_errors:
                    raise
                duration_s = round(self._clock.monotonic() - began, 3)
                _log_failure(recorded.log, error, duration_s, partial)
                return Result(asked.run_id, job, "failed", partial, duration_s, error)
            except BaseException as error:  # the caller gives up (Ctrl-C): what was done stays done
                self._note_failure(recorded, job, "interrupted", error)
                raise
        recorded.log.info("job_finished", duration_s=counts["duration_seconds"], counts=counts)
        return Result(asked.run_id, job, "ok", counts, counts["duration_seconds"], None)

    def use(self, rooms: Rooms) -> None:
        """Let the runs from now on work with these."""
        self._rooms = rooms

    def stop_waiting(self) -> None:
        """Give up whatever waits for another process's run; for good, as this process is to end."""
        self._is_ending.set()

    def _wait_for(self, lock: FileLock, log: Log) -> None:
        said_at: float | None = time.monotonic() + _SAY_WAITING_S
        while not lock.acquire():
            if said_at is not None and time.monotonic() >= said_at:
                log.info("waiting_for_other_run")
                said_at = None
            if self._is_ending.wait(_WAIT_STEP_S):
                raise WaitAbandonedError

    def _begin(self, recorded: _Recorded, asked: Run, options: dict[str, Any]) -> None:
        """Settle the runs of killed processes (no other can be: the lock is ours) and note that this one began."""
        counts = {"rebuild": True} if options.get("rebuild") else {}
        begun = asked._replace(started_us=instants.to_us(self._clock.now()), counts=counts)
        with self._store.write() as transaction:
            dead = [
                run
                for name in JOBS
                if lock_file(name) == lock_file(asked.job)
                for run in transaction.unfinished_runs(name)
            ]
            for run in dead:
                self._end(transaction, run, "interrupted")
            transaction.begin_run(begun)
        for run in dead:
            recorded.log.warning("interrupted_run_found", of_job=run.job, of_run_id=run.run_id, counts=run.counts)

    def _end(self, transaction: Transaction, run: Run, ending: Ending, error: BaseException | None = None) -> None:
        event = jobs.event_of(run.job, run.counts, is_whole=ending == "ok")
        if event is not None:
            body = _keys(run)
            body |= {} if ending == "ok" else {ending: True}
            body |= {"error": _one_line(error)} if ending == "failed" and error is not None else {}
            body |= {key: value for key, value in run.counts.items() if key != "troubles"}
            transaction.event(event, **body)
        transaction.end_run(run.run_id, ending, instants.to_us(self._clock.now()))

    def _note_failure(
        self, recorded: _Recorded, job: str, ending: Literal["failed", "interrupted"], error: BaseException
    ) -> dict[str, Any]:
        """Record how a run ended, with what it had done; where the state refuses, the next run will."""
        counts: dict[str, Any] = {}
        try:
            with self._store.write() as transaction:
                for run in transaction.unfinished_runs(job):
                    if run.run_id == recorded.run_id:
                        counts = run.counts
                        self._end(transaction, run, ending, error)
        except BoundaryError:
            recorded.log.warning("run_unrecorded")
        return counts | ({"troubles": recorded.troubles} if recorded.troubles else {})

    def _new_id(self) -> str:
        return f"{self._clock.now():%Y%m%dT%H%M%SZ}-{os.urandom(4).hex()}"


class _Recorded:
    """The run as the rooms see it."""

    def __init__(
        self,
        run: Run,
        log: Log,
        progress: Callable[[int, int], None] | None,
        is_ending: Callable[[], bool],
    ) -> None:
        self.run_id = run.run_id
        self.is_scheduled = run.slot is not None or run.trigger == "schedule"
        self.log = log
        self.is_ending = is_ending
        self.troubles: list[str] = []
        self._progress = progress
        self._said_at = time.monotonic()

    def progress(self, done: int, total: int) -> None:
        """Tell how far the run is; the log of one that takes long as well."""
        if self._progress is not None:
            self._progress(done, total)
        if time.monotonic() - self._said_at >= _SAY_PROGRESS_S:
            self._said_at = time.monotonic()
            self.log.info("job_progress", done=done, total=total)

    def trouble(self, error: BoundaryError) -> None:
        """Tell of a failure that concerns one input, or a provider, and stops nothing."""
        if isinstance(error, BackendError | JudgeBusyError | JudgeMissingError | JudgeUnsureError):
            self.log.warning("provider_trouble", **_details(error))
        else:
            self.log.warning("input_unreadable", **_details(error))
        if len(self.troubles) < _TROUBLES_KEPT:
            hint = f". {error.hint}" if isinstance(error, BackendError) else ""  # what a person has to do elsewhere
            self.troubles.append(redact(f"{error.subject}: {error.cause}{hint}").text)


def lock_file(job: str) -> str:
    """Return the path below ROOT of the lock that a job runs under."""
    return f"{layout.AUTOLEARN}/.{LOCKS.get(job, job)}.lock"


def _keys(run: Run) -> dict[str, object]:
    keys: dict[str, object] = {"job": run.job, "run_id": run.run_id, "trigger": run.trigger}
    return keys if run.slot is None else {**keys, "slot": run.slot}


def _details(error: BoundaryError) -> dict[str, object]:
    return {
        "operation": error.operation,
        "subject": error.subject,
        "cause": error.cause,
        "hint": error.hint,
        "retryable": error.retryable,
    }


def _log_failure(log: Log, error: Exception, duration_s: float, counts: dict[str, Any]) -> None:
    if isinstance(error, WaitAbandonedError):
        log.info("job_abandoned")
    elif isinstance(error, BoundaryError):
        # It says itself what failed of what and why; the frames would say no more.
        log.error("job_failed", duration_s=duration_s, counts=counts, error=str(error), **_details(error))
    else:
        log.error("job_failed", duration_s=duration_s, counts=counts, exc_info=error)


def _one_line(error: BaseException) -> str:
    return redact(f"{type(error).__name__}: {error}").text[:500]
