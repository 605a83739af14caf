"""Instants as the fleet writes them, and as we store them.

In the state an instant is a number of microseconds since 1970-01-01T00:00:00Z, and a day the number YYYYMMDD in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

decode: Final = msgspec.json.Decoder(datetime).decode
"""Read a JSON string as a date with its time of day: ``T`` or a space between them, fractions or none, and ``Z``,
``-0600``, ``-06:00`` or nothing for the offset. The result is aware, or naive where no offset is given; anything else,
a date alone among it, raises ``msgspec.DecodeError``."""


def to_us(moment: datetime) -> int:
    """Return an aware datetime as microseconds since 1970."""
    # In integers: a float cannot tell the last microsecond of the year 9999 from the next year.
    delta = moment - _EPOCH
    return delta.days * DAY_US + delta.seconds * SECOND_US + delta.microseconds


def from_us(us: int) -> datetime:
    """Return the aware UTC datetime of an instant."""
    return _EPOCH + timedelta(0, 0, us)  # by position: it is asked for every line of a report


def to_text(moment: datetime) -> str:
    """Write an aware datetime as RFC 3339 in UTC, with microseconds only where there are some."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def us_to_text(us: int | None) -> str | None:
    """Write an instant as RFC 3339 in UTC, with microseconds only where there are some; None stays None."""
    return None if us is None else to_text(from_us(us))


def day_number(moment: datetime) -> int:
    """Return the UTC day of an aware datetime as the number YYYYMMDD."""
    utc = moment.astimezone(UTC)
    return utc.year * 10_000 + utc.month * 100 + utc.day
