"""Days and times as operators write them: ``20251127`` or ``2025-11-27``, ``2025-11-27T12:00:00Z``."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Final

import click
import msgspec
import orjson

from cortex_autolearn.model import instants

_MINUTE: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?!:)", re.ASCII)
_SHAPE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)|(\d{4})(\d\d)(\d\d)", re.ASCII)


class Day(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A UTC day; its value is the number YYYYMMDD."""

    name = "DATE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of a day that exists."""
        if isinstance(value, int):
            return value
        match = _SHAPE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no day: write YYYYMMDD or YYYY-MM-DD.", param, ctx)
        try:
            return day_of(date(*(int(group) for group in match.groups() if group is not None)))
        except ValueError as error:
            self.fail(f"{value!r} is no day: {error}.", param, ctx)


class Instant(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """An instant: RFC 3339, or a day, which stands for its end; without an offset it is in UTC."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return microseconds since 1970."""
        if isinstance(value, int):
            return value
        try:
            found = instants.decode(orjson.dumps(_MINUTE.sub(r"\g<0>:00", str(value))))
        except (msgspec.DecodeError, orjson.JSONEncodeError):
            if ":" in str(value):
                self.fail(f"{value!r} is no time: write one such as 2025-11-27T12:00:00Z, or a day.", param, ctx)
            day = f"{DAY.convert(value, param, ctx):08d}"
            return instants.to_us(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)) + instants.DAY_US - 1
        us = instants.to_us(found if found.tzinfo is not None else found.replace(tzinfo=UTC))
        try:
            instants.from_us(us)
        except OverflowError:  # its offset takes it beyond the years 1 to 9999
            self.fail(f"{value!r} is in no year from 1 to 9999.", param, ctx)
        return us


DAY: Final = Day()
INSTANT: Final = Instant()


def day_of(day: date) -> int:
    """Return a date as the number YYYYMMDD."""
    return day.year * 10_000 + day.month * 100 + day.day
