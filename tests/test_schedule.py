"""The schedule on the real event loop and the real APScheduler, with clocks that run fast, step and stall."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_autolearn.schedule import FastTime, RealTime, Scheduler, _SlotTrigger
from cortex_autolearn.slots import Daily, Every, Job, Rule, Slot, current_slot, next_due

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = timedelta(hours=1)
PATIENCE_S = 20.0


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def wall() -> datetime:
    return datetime.now(UTC)


class Fired:
    """Collects what fired, and lets a test wait for it."""

    def __init__(self) -> None:
        self.slots: list[tuple[str, Slot]] = []
        self._news = asyncio.Event()

    def __call__(self, name: str, slot: Slot) -> None:
        self.slots.append((name, slot))
        self._news.set()

    def keys(self, name: str) -> list[str]:
        return [slot.key for fired, slot in self.slots if fired == name]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


class PatientTime:
    """Simulated time that moves from slot to slot, however slow the machine: a stall coalesces nothing."""

    def __init__(self, start: datetime) -> None:
        self.sim = start

    def now(self) -> datetime:
        return self.sim

    def to_real(self, instant: datetime) -> datetime:
        return wall() + max(instant - self.sim, timedelta()) / 1e6  # far above what a busy machine stalls


class SteppedTime:
    """Real time with an error, as of a machine whose clock is set while it runs."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self.offset = offset

    def now(self) -> datetime:
        return wall() + self.offset

    def to_real(self, instant: datetime) -> datetime:
        return instant - self.offset


def expected_keys(rule: Rule, start: datetime, end: datetime) -> list[str]:
    keys, slot = [], next_due(rule, start)
    while slot.due_at <= end:
        keys.append(slot.key)
        slot = next_due(rule, slot.due_at)
    return keys


def fire_between(rule: Rule, start: datetime, end: datetime) -> list[str]:
    """Run one job over a stretch of simulated time, and return the keys of what fired in it."""

    async def main() -> list[str]:
        clock, fired = PatientTime(start), Fired()

        def on_due(name: str, slot: Slot) -> None:
            assert clock.sim < slot.due_at
            clock.sim = slot.due_at
            fired(name, slot)

        scheduler = Scheduler([Job("job", rule)], clock, on_due)
        scheduler.start()
        await fired.until(lambda: next_due(rule, clock.sim).due_at > end)
        scheduler.shutdown()
        return [slot.key for _, slot in fired.slots if slot.due_at <= end]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-03-07T00:30:00", "2026-03-10T12:30:00"),  # Chicago skips an hour on the 8th
        ("2026-10-24T00:30:00", "2026-10-27T12:30:00"),  # Berlin repeats one on the 25th
    ],
)
def test_every_hour_fires_once_over_days_of_change(start: str, end: str) -> None:
    """Over days with a skipped and a repeated hour every hourly slot fires exactly once, in order."""
    fired = fire_between(Every(3600), utc(start), utc(end))
    assert fired == expected_keys(Every(3600), utc(start), utc(end))
    assert len(fired) == 84


@pytest.mark.parametrize("zone", ["America/Chicago", "Europe/Berlin"])
@pytest.mark.parametrize("start", ["2026-03-01T12:00:00", "2026-10-15T12:00:00"])
def test_two_at_night_fires_once_a_local_date(zone: str, start: str) -> None:
    """Daily at 02:00, 40 dates around both changes of the clock each have one run."""
    begin = utc(start)
    fired = fire_between(Daily("02:00", zone), begin, begin + timedelta(days=40))
    first = begin.date() + timedelta(days=1)
    assert fired == [(first + timedelta(days=i)).isoformat() for i in range(40)]


def test_a_fast_clock_fires_all_jobs_in_real_proportion() -> None:
    """A day at a speed of an hour in 80 ms: all slots of all jobs, once and in order, none before its time."""

    async def main() -> None:
        start, end = utc("2026-03-07T23:30:00"), utc("2026-03-08T23:30:00")
        jobs = [Job("h", Every(3600)), Job("q", Every(6 * 3600)), Job("d", Daily("02:00", "America/Chicago"))]
        clock, fired, lateness = FastTime(start, 3600 / 0.08), Fired(), []

        def on_due(name: str, slot: Slot) -> None:
            lateness.append(clock.now() - slot.due_at)
            fired(name, slot)

        scheduler = Scheduler(jobs, clock, on_due)
        scheduler.start()
        await fired.until(lambda: clock.now() > end)
        scheduler.shutdown()
        assert min(lateness) >= timedelta(0)
        stalled = max(lateness) > HOUR / 2
        for job in jobs:
            keys = [key for key in fired.keys(job.name) if key in expected_keys(job.rule, start, end)]
            assert keys == sorted(set(keys))
            # A machine that stalls for half a slot may have coalesced two, which is as promised.
            assert keys == expected_keys(job.rule, start, end) or stalled

    asyncio.run(main())


def test_a_blocked_loop_runs_afterwards_once_for_the_latest_slot() -> None:
    """Slots that came while the loop was blocked are neither dropped nor run one by one."""

    async def main() -> None:
        clock, fired = FastTime(utc("2026-05-01T00:30:00"), 3600 / 0.1), Fired()
        scheduler = Scheduler([Job("h", Every(3600))], clock, fired)
        scheduler.start()
        await fired.until(lambda: len(fired.slots) >= 2)
        before = len(fired.slots)
        time.sleep(0.75)  # noqa: ASYNC251 - blocking the loop is what is tested
        latest = current_slot(Every(3600), clock.now())
        await fired.until(lambda: len(fired.slots) > before)
        late = fired.slots[before][1]
        assert late.due_at >= latest.due_at
        assert late.due_at - fired.slots[before - 1][1].due_at >= 7 * HOUR
        await fired.until(lambda: len(fired.slots) >= before + 3)
        dues = [slot.due_at for _, slot in fired.slots]
        assert dues == sorted(set(dues))
        scheduler.shutdown()
        assert scheduler.misfires == 0

    asyncio.run(main())


def test_real_time_survives_a_blocked_loop() -> None:
    """On the real clock a loop blocked for longer than APScheduler's grace of one second loses no job."""

    async def main() -> None:
        fired = Fired()
        scheduler = Scheduler([Job("s", Every(1)), Job("t", Every(2))], RealTime(), fired)
        scheduler.start()
        time.sleep(2.3)  # noqa: ASYNC251 - blocking the loop is what is tested
        await fired.until(lambda: {name for name, _ in fired.slots} == {"s", "t"})
        assert wall() - fired.slots[0][1].due_at < timedelta(seconds=2.5)
        scheduler.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize(("step", "latest_first"), [(timedelta(hours=5), True), (timedelta(days=-365), False)])
def test_resync_after_a_clock_step(step: timedelta, latest_first: bool) -> None:  # noqa: FBT001 - a table's column
    """After a step forward the latest missed slot fires at once; after one back the next is near, not a year off."""

    async def main() -> None:
        clock, fired = SteppedTime(), Fired()
        # It starts at twenty past the hour, so that no slot comes by itself.
        clock.offset = current_slot(Every(3600), wall()).due_at + timedelta(minutes=20) - wall()
        scheduler = Scheduler([Job("h", Every(3600))], clock, fired)
        scheduler.start()
        clock.offset += step
        scheduler.resync()
        now = clock.now()
        if latest_first:
            await fired.until(lambda: len(fired.slots) == 1)
            assert fired.slots[0][1] == current_slot(Every(3600), now)
        assert timedelta(0) < scheduler.next_runs()["h"] - now <= HOUR
        assert len(fired.slots) == int(latest_first)
        scheduler.shutdown()

    asyncio.run(main())


def test_a_clock_set_right_after_fifty_years_holds_nothing_up() -> None:
    """A step from 1970 to today is one run at once, not half a million slots counted one by one."""

    async def main() -> None:
        fired, clock = Fired(), SteppedTime(utc("1970-01-02T00:20:00") - wall())
        scheduler = Scheduler([Job("m", Every(60)), Job("d", Daily("02:00", "Europe/Berlin"))], clock, fired)
        scheduler.start()
        clock.offset = timedelta()
        began = time.monotonic()
        scheduler.resync()
        await fired.until(lambda: {name for name, _ in fired.slots} == {"m", "d"})
        assert time.monotonic() - began < 1
        assert fired.keys("d") == [current_slot(Daily("02:00", "Europe/Berlin"), wall()).key]
        scheduler.shutdown()

    asyncio.run(main())


def test_replace_keeps_what_stays_and_starts_what_is_new() -> None:
    """A reload keeps the place of a job whose rule stays, drops what is gone, and counts a new rule from now."""

    async def main() -> None:
        clock, fired = FastTime(utc("2026-05-01T00:30:00"), 3600 / 0.05), Fired()
        stays, goes = Job("stays", Every(3600)), Job("goes", Every(3600))
        scheduler = Scheduler([stays, goes], clock, fired)
        assert scheduler.next_runs().keys() == {"stays", "goes"}
        scheduler.start()
        await fired.until(lambda: len(fired.keys("goes")) >= 2)
        scheduler.replace([stays, Job("new", Every(1800))])
        gone = len(fired.keys("goes"))
        await fired.until(lambda: len(fired.keys("new")) >= 4)
        assert scheduler.next_runs().keys() == {"stays", "new"}
        assert len(fired.keys("goes")) <= gone + 1  # one may have been on its way
        assert fired.keys("stays") == sorted(set(fired.keys("stays")))
        scheduler.shutdown()

    asyncio.run(main())


def test_nothing_fires_after_pause_or_shutdown() -> None:
    """A pause holds at once, the scheduler still counts as alive, and stopping twice or before starting is no error."""

    async def main() -> None:
        clock, fired = FastTime(utc("2026-05-01T00:30:00"), 3600 / 0.02), Fired()
        scheduler = Scheduler([Job("h", Every(3600))], clock, fired)
        scheduler.shutdown()
        assert not scheduler.alive()
        scheduler.start()
        assert scheduler.alive()
        await fired.until(lambda: len(fired.slots) >= 2)
        scheduler.pause()
        count = len(fired.slots)
        await asyncio.sleep(0.2)  # ten slots' time, in which nothing may happen
        assert len(fired.slots) == count
        assert scheduler.alive()
        scheduler.shutdown()
        scheduler.shutdown()
        assert not scheduler.alive()
        await asyncio.sleep(0.05)
        assert len(fired.slots) == count

    asyncio.run(main())


def test_a_job_that_cannot_be_requested_stops_nothing() -> None:
    """When the callback raises, it is counted, and later slots still fire."""

    async def main() -> None:
        clock, fired = FastTime(utc("2026-05-01T00:30:00"), 3600 / 0.02), Fired()

        def on_due(name: str, slot: Slot) -> None:
            fired(name, slot)
            if len(fired.slots) == 1:
                raise RuntimeError("no")

        scheduler = Scheduler([Job("h", Every(3600))], clock, on_due)
        scheduler.start()
        await fired.until(lambda: len(fired.slots) >= 3)
        scheduler.shutdown()
        assert scheduler.misfires == 1

    asyncio.run(main())


def test_a_dead_timer_is_seen() -> None:
    """A scheduler whose timer died says it is not alive, though APScheduler says it runs."""

    async def main() -> None:
        class Broken(FastTime):
            broken = False

            def to_real(self, instant: datetime) -> datetime:
                if self.broken:
                    raise OverflowError("no such time")
                return super().to_real(instant)

        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        clock, fired = Broken(utc("2026-05-01T00:30:00"), 3600 / 0.02), Fired()
        scheduler = Scheduler([Job("h", Every(3600))], clock, fired, stuck_s=0.1)
        scheduler.start()
        await fired.until(lambda: len(fired.slots) >= 1)
        assert scheduler.alive()
        clock.broken = True
        async with asyncio.timeout(PATIENCE_S):
            while scheduler.alive():  # noqa: ASYNC110 - being asked again is what it decides by
                await asyncio.sleep(0.01)
        scheduler.shutdown()

    asyncio.run(main())


@given(
    rule=st.sampled_from([Every(3600), Every(300), Daily("02:00", "America/Chicago"), Daily("02:30", "Europe/Berlin")]),
    speed=st.floats(0.5, 1e7),
    looks=st.lists(st.integers(0, 3_000_000), min_size=1, max_size=40),
)
@settings(deadline=None)
def test_however_late_each_slot_at_most_once_and_the_latest_always(rule: Rule, speed: float, looks: list[int]) -> None:
    """At any speed and lateness of the loop the trigger ends, repeats no slot, and never misses the latest."""
    real = [utc("2026-03-07T00:00:00")]
    clock = FastTime(utc("2026-10-24T00:00:00"), speed, lambda: real[0])
    trigger = _SlotTrigger(rule, clock, clock.now())
    next_run, fired = trigger.get_next_fire_time(None, real[0]), []
    for microseconds in looks:
        real[0] += timedelta(microseconds=microseconds)
        # This is what APScheduler does: collect all run times up to now, run for the last, ask again for the next.
        run_times = []
        while next_run <= real[0]:
            run_times.append(next_run)
            assert len(run_times) <= 3
            next_run = trigger.get_next_fire_time(next_run, real[0])
        if run_times:
            assert trigger.get_next_fire_time(run_times[-1], real[0]) == next_run
            assert trigger.fired is not None
            assert trigger.fired.due_at <= clock.now()
            fired.append(trigger.fired)
        # The slot that is current now has fired, or is the very next to.
        assert max(trigger.last_due_at, trigger.upcoming.due_at) >= current_slot(rule, clock.now()).due_at
        assert real[0] < next_run <= clock.to_real(trigger.upcoming.due_at)
    dues = [slot.due_at for slot in fired]
    assert dues == sorted(set(dues))
