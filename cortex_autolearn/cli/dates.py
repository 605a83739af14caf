"""Days as operators write them: ``20251127`` or ``2025-11-27``."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

import click

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


DAY: Final = Day()


def day_of(day: date) -> int:
    """Return a date as the number YYYYMMDD."""
    return day.year * 10_000 + day.month * 100 + day.day
