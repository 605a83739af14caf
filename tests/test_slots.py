"""The rules of time: what is due when, in zones that skip and repeat hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]  # ships no types
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_autolearn.slots import ClockWatch, Daily, Every, Job, Rule, Slot, current_slot, due, next_due

ZONES = [
    "America/Chicago",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/Nuuk",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Pacific/Kwajalein",
    "UTC",
]

instants = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001 - hypothesis takes naive bounds and adds the zone
    datetime(2037, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
daily_rules = st.builds(
    Daily,
    at=st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 59])),
    timezone=st.sampled_from(ZONES),
)
rules: st.SearchStrategy[Rule] = st.one_of(daily_rules, st.builds(Every, st.sampled_from([1, 60, 300, 3600, 21600])))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "now", "expected"),
    [
        (Every(3600), "2026-03-08T07:59:59.999999", Slot("2026-03-08T07:00:00Z", utc("2026-03-08T07:00:00"))),
        (Every(3600), "2026-03-08T08:00:00", Slot("2026-03-08T08:00:00Z", utc("2026-03-08T08:00:00"))),
        (Every(21600), "2026-03-08T17:10:00", Slot("2026-03-08T12:00:00Z", utc("2026-03-08T12:00:00"))),
        # Chicago in winter is UTC-6; a minute before two, yesterday's slot is the current one.
        (Daily("02:00", "America/Chicago"), "2026-01-10T07:59:00", Slot("2026-01-09", utc("2026-01-09T08:00:00"))),
        (Daily("02:00", "America/Chicago"), "2026-01-10T08:00:00", Slot("2026-01-10", utc("2026-01-10T08:00:00"))),
        # 8 March 2026: 02:00 CST is 03:00 CDT, and the slot is due at that very instant.
        (Daily("02:00", "America/Chicago"), "2026-03-08T08:00:00", Slot("2026-03-08", utc("2026-03-08T08:00:00"))),
        (Daily("02:30", "America/Chicago"), "2026-03-08T08:00:00", Slot("2026-03-08", utc("2026-03-08T08:00:00"))),
        # 25 October 2026: 02:00 comes at 00:00 UTC and again at 01:00 UTC; the first of the two counts.
        (Daily("02:00", "Europe/Berlin"), "2026-10-25T00:00:00", Slot("2026-10-25", utc("2026-10-25T00:00:00"))),
        (Daily("02:00", "Europe/Berlin"), "2026-10-25T01:00:00", Slot("2026-10-25", utc("2026-10-25T00:00:00"))),
        # Lord Howe skips half an hour: 02:15 on 4 October 2026 is due at 02:30 local, 15:30 UTC of the day before.
        (Daily("02:15", "Australia/Lord_Howe"), "2026-10-03T15:30:00", Slot("2026-10-04", utc("2026-10-03T15:30:00"))),
        # Samoa had no 30 December 2011.
        (Daily("02:00", "Pacific/Apia"), "2011-12-30T11:59:00", Slot("2011-12-29", utc("2011-12-29T12:00:00"))),
        (Daily("02:00", "Pacific/Apia"), "2011-12-30T12:00:00", Slot("2011-12-31", utc("2011-12-30T12:00:00"))),
        # Nuuk jumps from 23:00 to midnight: Saturday's 23:30 is due at Sunday's first instant, and stays Saturday's.
        (Daily("23:30", "America/Nuuk"), "2025-03-30T01:00:00", Slot("2025-03-29", utc("2025-03-30T01:00:00"))),
        # St John's went back from 00:01 to 23:01: the slot of 1 November is due although it is 31 October again.
        (Daily("00:00", "America/St_Johns"), "2009-11-01T02:45:00", Slot("2009-11-01", utc("2009-11-01T02:30:00"))),
        (Daily("02:00", "Asia/Kathmandu"), "2026-05-01T00:00:00", Slot("2026-05-01", utc("2026-04-30T20:15:00"))),
    ],
)
def test_current_slot(rule: Rule, now: str, expected: Slot) -> None:
    """The current slot is the latest one due at or before now, also where an hour or a date is skipped or repeated."""
    assert current_slot(rule, utc(now)) == expected


@given(rules, instants)
@settings(deadline=None)
def test_next_and_current_are_two_views_of_one_sequence(rule: Rule, now: datetime) -> None:
    """The next slot is strictly later, becomes the current one when it is due, and none lies between them."""
    current, following = current_slot(rule, now), next_due(rule, now)
    assert current.due_at <= now < following.due_at
    assert current.key < following.key
    assert current_slot(rule, following.due_at) == following
    assert next_due(rule, current.due_at) == following
    assert current_slot(rule, following.due_at - timedelta(microseconds=1)) == current


@given(daily_rules, st.dates(date(1990, 1, 2), date(2036, 1, 1)))
@settings(deadline=None)
def test_each_local_date_has_exactly_one_slot(rule: Daily, start: date) -> None:
    """Over 60 days every date that the zone has gets one slot, in order, at its time or at the end of the gap."""
    zone = ZoneInfo(rule.timezone)
    begin = datetime(start.year, start.month, start.day, tzinfo=UTC)
    end = begin + timedelta(days=60)
    keys = []
    slot = next_due(rule, begin)
    while slot.due_at <= end:
        keys.append(slot.key)
        wall = slot.due_at.astimezone(zone)
        assert wall.strftime("%H:%M") == rule.at or wall.utcoffset() != (wall - timedelta(hours=30)).utcoffset()
        slot = next_due(rule, slot.due_at)
    assert keys == [day for day in _dates_of(zone, begin, end) if keys[0] <= day <= keys[-1]]
    assert len(keys) >= 58


def _dates_of(zone: ZoneInfo, begin: datetime, end: datetime) -> list[str]:
    hours = int((end - begin).total_seconds()) // 1800
    return sorted({(begin + timedelta(minutes=30 * i)).astimezone(zone).date().isoformat() for i in range(hours + 1)})


@given(daily_rules, instants)
@settings(deadline=None, max_examples=300)
def test_cron_agrees_wherever_it_is_right(rule: Daily, now: datetime) -> None:
    """APScheduler's cron names the same instant, but for times that a zone skips or repeats.

    There it is late by the length of the gap when the time lies inside it (02:30 becomes 03:30), fires a repeated
    time twice, and knows no skipped date; ours is due once, at the first instant that is not before the time.
    """
    zone = ZoneInfo(rule.timezone)
    hour, minute = rule.at.split(":")
    following = next_due(rule, now)
    window = [now + timedelta(hours=h) for h in range(-50, 75)]
    if len({t.astimezone(zone).utcoffset() for t in window}) == 1:
        cron = CronTrigger(hour=hour, minute=minute, timezone=rule.timezone)
        assert cron.get_next_fire_time(None, now + timedelta(microseconds=1)).astimezone(UTC) == following.due_at


def test_cron_agrees_in_chicago_and_doubles_in_berlin() -> None:
    """The skipped 02:00 of Chicago is one run in both; the repeated 02:00 of Berlin is two in cron, one in ours."""
    chicago = CronTrigger(hour=2, timezone="America/Chicago").get_next_fire_time(None, utc("2026-03-08T00:00:00"))
    expected = utc("2026-03-08T08:00:00")
    assert chicago.astimezone(UTC) == expected
    assert next_due(Daily("02:00", "America/Chicago"), utc("2026-03-08T00:00:00")).due_at == expected

    berlin = CronTrigger(hour=2, timezone="Europe/Berlin")
    first = berlin.get_next_fire_time(None, utc("2026-10-24T12:00:00"))
    second = berlin.get_next_fire_time(first, first)
    assert second.date() == first.date()
    ours = next_due(Daily("02:00", "Europe/Berlin"), utc("2026-10-24T12:00:00"))
    assert ours.due_at == first.astimezone(UTC)
    assert next_due(Daily("02:00", "Europe/Berlin"), ours.due_at).key == "2026-10-26"


@pytest.mark.parametrize("at", ["2:00", "24:00", "02:60", "0200", "ab:cd", "", "02:00:00", "-1:00", "२२:00"])
def test_a_time_that_is_none_is_refused(at: str) -> None:
    """A rule that could never be due cannot be made."""
    with pytest.raises(ValueError, match="time of day"):
        Daily(at, "UTC")


@pytest.mark.parametrize("zone", ["Chicago", "", "../etc/passwd", "/etc/passwd", "America"])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    """An unknown zone, or a name that leaves the zone folder, is refused."""
    with pytest.raises(ValueError, match="time zone"):
        Daily("02:00", zone)


def test_a_period_of_nothing_is_refused() -> None:
    """A period must have a length."""
    with pytest.raises(ValueError, match="period"):
        Every(0)


def test_due_is_one_run_a_job_after_downtime() -> None:
    """After three days away each job is due once, for its latest slot, unless the record holds that slot."""
    jobs = [Job("collect", Every(3600)), Job("medallion", Daily("02:00", "UTC")), Job("status", Every(21600))]
    record = {("collect", "2026-05-01T10:00:00Z"), ("medallion", "2026-05-01"), ("status", "2026-05-04T06:00:00Z")}
    found = due(jobs, utc("2026-05-04T10:30:00"), lambda name, key: (name, key) in record)
    assert [(job.name, slot.key) for job, slot in found] == [
        ("collect", "2026-05-04T10:00:00Z"),
        ("medallion", "2026-05-04"),
    ]


@pytest.mark.parametrize(
    ("wall_s", "monotonic_s", "step_s"),
    [
        (30, 30, None),
        (34.9, 30, None),
        (36, 30, 6),
        (-3600, 30, -3630),
        (30 + 8 * 3600, 30, 8 * 3600),
        (300, 300, None),
    ],
)
def test_a_clock_step_is_told_from_passing_time(wall_s: float, monotonic_s: float, step_s: float | None) -> None:
    """More than 5 s between the two clocks is a step, with its sign; a late look alone is not."""
    watch, start = ClockWatch(), utc("2026-05-01T00:00:00")
    assert watch.observe(start, 100.0) is None
    step = watch.observe(start + timedelta(seconds=wall_s), 100.0 + monotonic_s)
    assert step == (None if step_s is None else timedelta(seconds=step_s))
    assert watch.observe(start + timedelta(seconds=wall_s + 1), 101.0 + monotonic_s) is None
