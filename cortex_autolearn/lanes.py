"""Jobs that are asked for, taken one after the other: at most one of a kind runs, at most one more waits.

A lane holds the jobs that share a lock, so that none of them waits for another in a thread. Whoever asks for what waits
already adds to that request. How a job is run and recorded is ``runner``'s business; who asks for it, ``demand``'s.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.adapters.threads import in_thread
from cortex_autolearn.jobs import WAITS
from cortex_autolearn.ports import BoundaryError
from cortex_autolearn.runner import JOBS, LOCKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cortex_autolearn.runner import Result
    from cortex_autolearn.wiring import App

_COVERS: Final = {"medallion": "silver"}
"""A job that does all that another one of its lane does."""
_FOLLOWERS: Final = {
    "silver": ("collection", "rollout"),
    "medallion": ("collection", "rollout"),
    "collection": ("scoring", "rollout"),  # it takes in silver that Cortex wrote
    "scoring": ("collection", "rollout"),
    "readiness": ("rollout",),
    "training": ("rollout",),
}
"""Jobs for which a run of another one may leave something to do."""


class Request(NamedTuple):
    """A job that is asked for.

    It runs when its ``slot`` of the schedule is not done yet, or when something waits for it (``jobs.WAITS``) and
    ``if_waiting`` is set; with neither given, or when ``is_certain``, in any case. All that is looked up when its turn
    comes.
    """

    job: str
    trigger: str
    slot: str | None = None
    if_waiting: bool = False
    is_certain: bool = False

    @property
    def is_unconditional(self) -> bool:
        """Whether it runs in any case."""
        return self.is_certain or (self.slot is None and not self.if_waiting)


class Lane:
    """Takes requests for its jobs and has them run, one at a time.

    Arguments:
        name: of its lock.
        run: runs one job; must not raise for what the job fails of.
    """

    def __init__(self, name: str, run: Callable[[Request], Awaitable[None]]) -> None:
        self.name = name
        self.running: Request | None = None
        self._run = run
        self._pending: dict[str, Request] = {}
        self._news = asyncio.Event()
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return self.running is None and not self._pending

    def holds(self, job: str) -> bool:
        """Whether a job runs or waits here."""
        return job in self._pending or (self.running is not None and self.running.job == job)

    def ask(self, request: Request) -> None:
        """Have a job run after what runs now; forgotten once the lane is closed."""
        if self._is_closed:
            return
        waiting = self._pending.get(request.job)
        self._pending[request.job] = request if waiting is None else _merged(waiting, request)
        self._news.set()

    def close(self) -> None:
        """Take nothing more and forget what waits; :meth:`work` returns after what runs now."""
        self._is_closed = True
        self._pending.clear()
        self._news.set()

    async def work(self) -> None:
        """Run what is asked for until the lane is closed."""
        while not self._is_closed:
            if not self._pending:
                self._news.clear()
                await self._news.wait()
                continue
            self.running = self._take()
            try:
                await self._run(self.running)
            finally:
                self.running = None

    def _take(self) -> Request:
        for job, covered in _COVERS.items():
            if job in self._pending:
                self._pending.pop(covered, None)
                return self._pending.pop(job)
        return self._pending.pop(next(iter(self._pending)))


class Lanes:
    """All lanes, over one application.

    Arguments:
        app: whose jobs are run.
        on_end: called with the result of every run, in its thread.
    """

    def __init__(self, app: App, on_end: Callable[[Result], None] | None = None) -> None:
        self._app = app
        self._on_end = on_end
        self._is_closed = False
        self._failed: set[str] = set()
        self._put_off: dict[str, Request] = {}
        self._threads: set[int] = set()
        self._lanes = {name: Lane(name, self._run) for name in dict.fromkeys(LOCKS.get(job, job) for job in JOBS)}

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    @property
    def is_idle(self) -> bool:
        """Whether no job runs and none waits."""
        return all(lane.is_idle for lane in self)

    @property
    def running(self) -> list[str]:
        """The jobs that run now."""
        return [lane.running.job for lane in self if lane.running is not None]

    @property
    def has_threads(self) -> bool:
        """Whether a job still runs in a thread, be it one that nobody waits for any more."""
        return bool(self._threads)

    def has_failed(self, job: str) -> bool:
        """Whether the last run of a job here failed."""
        return job in self._failed

    def holds(self, job: str) -> bool:
        """Whether a job runs or waits."""
        return self._lanes[LOCKS.get(job, job)].holds(job)

    def ask(self, request: Request) -> None:
        """Have a job run as soon as its turn comes."""
        self._lanes[LOCKS.get(request.job, request.job)].ask(request)

    def ask_or_put_off(self, request: Request) -> None:
        """Have a job run because something changed; one that failed is put off: changes come many times a second."""
        if request.job not in self._failed:
            self.ask(request)
            return
        waiting = self._put_off.get(request.job)
        self._put_off[request.job] = request if waiting is None else _merged(waiting, request)

    def take_put_off(self) -> list[Request]:
        """Return what was put off since this was asked last."""
        found, self._put_off = self._put_off, {}
        return list(found.values())

    def close(self) -> None:
        """Take nothing more, forget what waits, and give up what waits for another process."""
        self._is_closed = True
        for lane in self:
            lane.close()
        self._app.runner.stop_waiting()

    async def _run(self, request: Request) -> None:
        """Run a job in a thread, and ask for what its result makes necessary."""
        if not await in_thread(partial(self._run_now, request), f"job-{request.job}"):
            return
        for job in _FOLLOWERS.get(request.job, ()):
            if job != "scoring" or job not in self._failed:  # what a provider refused waits for its next time
                self.ask_or_put_off(Request(job, request.job, if_waiting=True))

    def _run_now(self, request: Request) -> bool:
        """Run a job, if it is still wanted, and tell whether it was. Never raises for what a job fails of."""
        self._threads.add(threading.get_ident())
        try:
            if not self._is_wanted(request) or self._is_closed:  # finding out may have taken until now
                return False
            result = self._app.runner.run(request.job, trigger=request.trigger, slot=request.slot)
            (self._failed.discard if result.error is None else self._failed.add)(request.job)
            if self._on_end is not None:
                self._on_end(result)
            return True
        finally:
            self._threads.discard(threading.get_ident())

    def _is_wanted(self, request: Request) -> bool:
        try:
            return self._has_reason(request)
        except BoundaryError:
            return True  # the run finds out what is wrong with the state, and says so

    def _has_reason(self, request: Request) -> bool:
        if request.is_unconditional:
            return True
        if request.slot is not None:
            # After a step back of the clock a slot comes again; and a command may have run it meanwhile.
            with self._app.store.read() as reading:
                if not reading.slot_done(request.job, request.slot):
                    return True
        return request.if_waiting and WAITS[request.job](self._app.rooms)


def _merged(waiting: Request, request: Request) -> Request:
    """Return the one run that serves two requests of a job; the slot asked for last is the later one."""
    named = waiting if request.slot is None else request
    return Request(
        job=request.job,
        trigger=named.trigger,
        slot=named.slot,
        if_waiting=waiting.if_waiting or request.if_waiting,
        is_certain=waiting.is_unconditional or request.is_unconditional,
    )
