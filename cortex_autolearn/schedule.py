"""Tells, in the event loop and in time, which job is due: the only door to APScheduler.

What is due when are the pure rules of ``slots``; which runs are done, and running them, is left to the daemon, which is
called back and must not block. APScheduler brings the timer, the coalescing of late runs and the pausing. It reads
nothing but the real clock, so a trigger of our own maps simulated time to real time, and a demo of three days runs
through the same code in a minute.

No job store (the schedule is static, and the store's run record gives catch-up) and never ``jitter``: in the repeated
hour at the end of summer time it hangs the event loop for ever.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

# APScheduler 3 ships no types: what crosses this door is typed below, by hand.
from apscheduler.events import (  # type: ignore[import-untyped]
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
)
from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.base import BaseTrigger  # type: ignore[import-untyped]

from cortex_autolearn.slots import ClockWatch, Daily, Every, Job, Rule, Slot, current_slot, due, next_due

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "ClockWatch",
    "Daily",
    "Every",
    "FastTime",
    "Job",
    "RealTime",
    "Rule",
    "Scheduler",
    "Slot",
    "TimeMap",
    "due",
]

_STUCK_S: Final = 10.0
_TICK: Final = timedelta(microseconds=1)


class TimeMap(Protocol):
    """The time the schedule lives in, and the real instant at which a moment of it comes."""

    def now(self) -> datetime:
        """Return the current instant of the schedule, aware and in UTC."""

    def to_real(self, instant: datetime) -> datetime:
        """Return the real instant at which :meth:`now` has reached ``instant``; never one before it."""


def _wall() -> datetime:
    return datetime.now(UTC)


class RealTime:
    """The schedule lives in real time."""

    def __init__(self, wall: Callable[[], datetime] = _wall) -> None:
        self._wall = wall

    def now(self) -> datetime:
        """Return the current instant."""
        return self._wall()

    def to_real(self, instant: datetime) -> datetime:
        """Return ``instant``."""
        return instant


class FastTime:
    """Simulated time that starts anywhere and runs ``speed`` times as fast as real time, for demos and tests.

    Arguments:
        start: the simulated instant at which it starts, aware.
        speed: simulated seconds per real second, above 0.
        wall: the real clock. It must be the machine's own, for that is the one APScheduler waits by.
    """

    def __init__(self, start: datetime, speed: float, wall: Callable[[], datetime] = _wall) -> None:
        if not speed > 0:
            raise ValueError(f"a clock at speed {speed} never gets anywhere: use more than 0")
        self._start, self._speed, self._wall = start.astimezone(UTC), speed, wall
        self._real_start = wall()

    def now(self) -> datetime:
        """Return the current simulated instant."""
        return self._start + (self._wall() - self._real_start) * self._speed

    def to_real(self, instant: datetime) -> datetime:
        """Return the real instant at which ``instant`` has come."""
        # One tick more: division rounds to a microsecond, and at high speed half of one is noticeably early.
        return self._real_start + (instant - self._start) / self._speed + _TICK


class Scheduler:
    """Calls ``on_due(job name, slot)`` in the event loop for every slot that becomes due while it runs.

    Each slot at most once and in order; when the loop was busy over several slots of a job, once, for the latest.
    Slots of the time before :meth:`start` are not its business: see :func:`slots.due`.

    Arguments:
        jobs: what is due when; names are unique.
        clock: the time to live in.
        on_due: called in the loop; must not block. What it raises is logged by APScheduler and counted in `misfires`.
        stuck_s: for how long the timer may look dead before :meth:`alive` says so.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        clock: TimeMap,
        on_due: Callable[[str, Slot], None],
        *,
        stuck_s: float = _STUCK_S,
    ) -> None:
        self._jobs = _by_name(jobs)
        self._clock, self._on_due, self._stuck_s = clock, on_due, stuck_s
        self._triggers: dict[str, _SlotTrigger] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paused = False
        self._suspect_since: float | None = None
        self.misfires = 0
        """Slots that were due and not taken: refused by APScheduler, or ``on_due`` raised. Stays 0, or is a bug."""
        self._aps: Any = AsyncIOScheduler(timezone=UTC)
        self._aps.add_listener(self._count_misfire, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR)

    def start(self) -> None:
        """Start firing, from now on. Must be called in the event loop, once."""
        self._loop = asyncio.get_running_loop()
        self._aps.start()
        now = self._clock.now()
        for job in self._jobs.values():
            self._add(job, after=now)

    def pause(self) -> None:
        """Fire nothing more, from this moment; the first step of a drain."""
        self._paused = True
        if self._aps.running:
            self._aps.pause()

    def shutdown(self) -> None:
        """Stop for good; does nothing when it never ran. Nobody is waited for: drain the jobs before this."""
        if self._loop is not None and self._aps.running:
            self._loop = None
            # wait=True would not wait for coroutines either: it cancels them.
            self._aps.shutdown(wait=False)

    def replace(self, jobs: Sequence[Job]) -> None:
        """Take over a new schedule. A job whose rule stays keeps its place; a new rule counts from now."""
        old, self._jobs = self._jobs, _by_name(jobs)
        if self._loop is None:
            return
        for name in old.keys() - self._jobs.keys():
            self._remove(name)
        now = self._clock.now()
        for name, job in self._jobs.items():
            if old.get(name) != job:
                self._remove(name)
                self._add(job, after=now)

    def resync(self) -> None:
        """Compute every due time afresh, after the wall clock was stepped.

        The timer waits by a clock that does not step. Without this a step forward fires late by the step, and a step
        back from a year ahead fires nothing for a year. Slots fired before a step back may be fired again: the run
        record, where (job, slot) is unique, knows them.
        """
        if self._loop is None:
            return
        now = self._clock.now()
        for name, job in self._jobs.items():
            after = min(self._triggers[name].last_due_at, now)
            self._remove(name)
            self._add(job, after=after)

    def next_runs(self) -> dict[str, datetime]:
        """Return when each job is next due: instants of the schedule's clock, in UTC."""
        now = self._clock.now()
        return {
            name: self._triggers[name].upcoming.due_at if name in self._triggers else next_due(job.rule, now).due_at
            for name, job in self._jobs.items()
        }

    def alive(self) -> bool:
        """Tell whether it runs and its timer is armed. Meant to be asked regularly: one bad look is not yet death."""
        if self._loop is None or not self._aps.running:
            return False
        # Private, but the truth: an exception between two timers leaves a scheduler that says it runs and never wakes.
        timer: asyncio.TimerHandle | None = getattr(self._aps, "_timeout", None)
        now = self._loop.time()
        armed = timer is not None and not timer.cancelled() and timer.when() > now - self._stuck_s
        if armed or self._paused or not self._jobs:
            self._suspect_since = None
            return True
        # Between start and the next turn of the loop, and while a late timer waits for its turn, none is armed.
        if self._suspect_since is None:
            self._suspect_since = now
        return now - self._suspect_since < self._stuck_s

    def _add(self, job: Job, *, after: datetime) -> None:
        trigger = self._triggers[job.name] = _SlotTrigger(job.rule, self._clock, after)
        # The default grace of one second drops a run when the loop was busy; late is always better than never.
        self._aps.add_job(
            self._deliver,
            trigger,
            args=(job.name, trigger),
            id=job.name,
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
        )

    def _remove(self, name: str) -> None:
        if self._triggers.pop(name, None) is not None:
            self._aps.remove_job(name)

    async def _deliver(self, name: str, trigger: _SlotTrigger) -> None:
        # A coroutine, because APScheduler runs a plain function in a thread.
        if not self._paused and trigger.fired is not None:
            self._on_due(name, trigger.fired)

    def _count_misfire(self, _event: object) -> None:
        self.misfires += 1


class _SlotTrigger(BaseTrigger):  # type: ignore[misc]  # the base is untyped, and APScheduler insists on a subclass
    """Asks the rule for the next slot, and remembers exactly which slot every real fire time stands for.

    Mapping a real fire time back to simulated time would round, and find the slot before it (fired twice, or a loop
    that never ends) or miss one. APScheduler hands back the very instants it was given, so a memory is enough; it asks
    more than once about the same one.
    """

    def __init__(self, rule: Rule, clock: TimeMap, after: datetime) -> None:
        self._rule, self._clock, self._after = rule, clock, after
        self._slots: dict[datetime, Slot] = {}
        self.fired: Slot | None = None
        self.upcoming = next_due(rule, after)

    @property
    def last_due_at(self) -> datetime:
        """The due time of the slot fired last, or what this trigger started from."""
        return self._after if self.fired is None else self.fired.due_at

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:  # noqa: ARG002
        """Return the real instant of the slot after that of ``previous_fire_time``, or of the latest one due."""
        if previous_fire_time is not None:
            self.fired = self._slots[previous_fire_time]
            self._slots = {previous_fire_time: self.fired}
        slot = next_due(self._rule, self.last_due_at)
        # Straight to the latest: APScheduler would coalesce them too, but one by one, and a clock set from 1970 to
        # today holds the loop for as long as it takes to count half a million hours.
        latest = current_slot(self._rule, self._clock.now())
        if latest.due_at > slot.due_at:
            slot = latest
        fire_at = self._clock.to_real(slot.due_at)
        if previous_fire_time is not None:
            fire_at = max(fire_at, previous_fire_time + _TICK)
        self._slots[fire_at] = self.upcoming = slot
        return fire_at


def _by_name(jobs: Sequence[Job]) -> dict[str, Job]:
    named = {job.name: job for job in jobs}
    assert len(named) == len(jobs), "two jobs of one name"
    return named
