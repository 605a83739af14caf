"""When a job is due: pure rules over instants, and the names of the slots they make.

A slot is one due run of one job. Its key is what the run record keeps unique, so a slot that is met twice (a repeated
hour, a stepped clock, a restart) runs once. Firing the slots in time is left to ``schedule``; remembering which are
done is left to the store.

All comparisons are made in UTC. Local time appears in two places only: where a local date becomes an instant, and
where an instant becomes a local date.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never
from zoneinfo import ZoneInfo

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CLOCK_STEP: Final = timedelta(seconds=5)
"""Wall and monotonic time drifting apart by more than this between two looks is a step, not a slow disk or a leap."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_SEARCH_DAYS: Final = 3
"""How far a due date can lie from the local date of now: one day by itself, one by a skipped date, one to spare."""


class Daily(msgspec.Struct, frozen=True, tag="daily"):
    """Once every local date.

    Arguments:
        at: wall clock time, ``HH:MM`` of 24 hours.
        timezone: an IANA name, such as ``America/Chicago``.
    """

    at: str
    timezone: str

    def __post_init__(self) -> None:
        hour, colon, minute = self.at.partition(":")
        digits = hour + minute
        if not (colon and len(hour) == len(minute) == 2 and digits.isascii() and digits.isdecimal()):
            raise ValueError(f"{self.at!r} is not a time of day: write HH:MM, such as 02:00")
        if int(hour) > 23 or int(minute) > 59:
            raise ValueError(f"{self.at!r} is not a time of day: 00:00 to 23:59")
        try:
            ZoneInfo(self.timezone)
        except (OSError, LookupError, ValueError) as error:
            raise ValueError(f"{self.timezone!r} is not a known time zone: use an IANA name") from error


class Every(msgspec.Struct, frozen=True, tag="every"):
    """Once every period, aligned to the UTC epoch: an hour starts on the hour, whenever the process did.

    Arguments:
        period_s: length of a period, whole seconds, at least 1.
    """

    period_s: int

    def __post_init__(self) -> None:
        if self.period_s < 1:
            raise ValueError(f"a period of {self.period_s} s never ends: use at least 1 s")


Rule: TypeAlias = Daily | Every


class Slot(msgspec.Struct, frozen=True):
    """One due run: ``key`` is the local date (daily) or the UTC start of the period; ``due_at`` is in UTC."""

    key: str
    due_at: datetime


class Job(msgspec.Struct, frozen=True):
    """A name and when it is due. What it does is known to whoever is told that it is due."""

    name: str
    rule: Rule


def current_slot(rule: Rule, now_utc: datetime) -> Slot:
    """Return the latest slot due at or before ``now_utc`` (aware)."""
    _assert_aware(now_utc)
    match rule:
        case Every(period_s=period_s):
            return _period_slot((now_utc - _EPOCH) // timedelta(seconds=period_s), period_s)
        case Daily():
            today = now_utc.astimezone(ZoneInfo(rule.timezone)).date()
            # Tomorrow's slot may be due already: some zones have gone back from 00:01 to 23:01 of the day before.
            for ahead in range(1, -_SEARCH_DAYS - 1, -1):
                slot = _daily_slot(rule, today + timedelta(days=ahead))
                if slot is not None and slot.due_at <= now_utc:
                    return slot
            raise AssertionError(f"no slot of {rule} within {_SEARCH_DAYS} days before {now_utc}")
        case _:
            assert_never(rule)


def next_due(rule: Rule, after_utc: datetime) -> Slot:
    """Return the earliest slot due strictly after ``after_utc`` (aware)."""
    _assert_aware(after_utc)
    match rule:
        case Every(period_s=period_s):
            return _period_slot((after_utc - _EPOCH) // timedelta(seconds=period_s) + 1, period_s)
        case Daily():
            today = after_utc.astimezone(ZoneInfo(rule.timezone)).date()
            # Yesterday's slot may still come: a zone that skips 23:30 to midnight has it due at today's first instant.
            for ahead in range(-1, _SEARCH_DAYS + 1):
                slot = _daily_slot(rule, today + timedelta(days=ahead))
                if slot is not None and slot.due_at > after_utc:
                    return slot
            raise AssertionError(f"no slot of {rule} within {_SEARCH_DAYS} days after {after_utc}")
        case _:
            assert_never(rule)


def due(jobs: Iterable[Job], now_utc: datetime, done: Callable[[str, str], bool]) -> list[tuple[Job, Slot]]:
    """Return the jobs whose current slot is not done: one run each, for however many slots were missed.

    Arguments:
        jobs: what is scheduled.
        now_utc: the instant to judge by, aware.
        done: whether the run record holds an ended run of (job name, slot key).
    """
    slots = ((job, current_slot(job.rule, now_utc)) for job in jobs)
    return [(job, slot) for job, slot in slots if not done(job.name, slot.key)]


class ClockWatch:
    """Tells a stepped wall clock, or a machine that slept, from time that merely passed."""

    def __init__(self) -> None:
        self._last: tuple[datetime, float] | None = None

    def observe(self, wall: datetime, monotonic_s: float) -> timedelta | None:
        """Compare with the previous look; return how far the wall clock jumped (negative: back), or None.

        Arguments:
            wall: the wall clock, aware.
            monotonic_s: a clock that never steps, read at the same moment, in seconds.
        """
        _assert_aware(wall)
        last, self._last = self._last, (wall, monotonic_s)
        if last is None:
            return None
        step = (wall - last[0]) - timedelta(seconds=monotonic_s - last[1])
        return step if abs(step) > CLOCK_STEP else None


def _period_slot(index: int, period_s: int) -> Slot:
    start = _EPOCH + index * timedelta(seconds=period_s)
    # isoformat, not strftime: the latter does not pad years before 1000 to four digits on every platform.
    return Slot(key=start.replace(tzinfo=None).isoformat(timespec="seconds") + "Z", due_at=start)


def _daily_slot(rule: Daily, day: date) -> Slot | None:
    """Return the slot of a local date, or None where the zone skipped that date altogether (Samoa, 30 Dec 2011)."""
    zone = ZoneInfo(rule.timezone)
    # fold=0 is the first of two, where this time comes twice.
    local = datetime(day.year, day.month, day.day, int(rule.at[:2]), int(rule.at[3:]), tzinfo=zone)
    due_at = local.astimezone(UTC)
    if due_at.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return Slot(key=day.isoformat(), due_at=due_at)
    gap_end = _gap_end(local)
    before, after = (gap_end - _SECOND).astimezone(zone).date(), gap_end.astimezone(zone).date()
    if before < day < after:
        return None
    return Slot(key=day.isoformat(), due_at=gap_end)


def _gap_end(local: datetime) -> datetime:
    """Return the instant at which the clock jumped over ``local``, a time that its zone skips.

    In a gap (PEP 495) fold=1 reads the time with the offset that holds after the jump, which gives an instant before
    the jump, and fold=0 the reverse; the jump is the first instant between them with the later offset.
    """
    zone = local.tzinfo
    early, late = local.replace(fold=1).astimezone(UTC), local.replace(fold=0).astimezone(UTC)
    assert early < late, f"{local} is not in a gap"
    new_offset = late.astimezone(zone).utcoffset()
    while late - early > _SECOND:
        middle = early + (late - early) // (2 * _SECOND) * _SECOND
        if middle.astimezone(zone).utcoffset() == new_offset:
            late = middle
        else:
            early = middle
    return late


def _assert_aware(instant: datetime) -> None:
    assert instant.tzinfo is not None, "a naive time cannot be placed on the line of instants"
