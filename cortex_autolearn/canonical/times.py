"""When a task was created, started and completed, and how long it took."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Final

import msgspec

from cortex_autolearn.canonical import values
from cortex_autolearn.model import instants
from cortex_autolearn.model.rawjson import Fields, Place, first, value_at

NO_RANK: Final = -(1 << 62)
"""The rank of a record without any readable time: below every instant."""

_UNREADABLE: Final = datetime.min.replace(tzinfo=UTC)
"""Stands for a time that is there and cannot be read; told apart by identity."""

_NAMES: Final = ("created_at", "started_at", "completed_at")


def settle(
    candidates: tuple[tuple[Place, ...], ...],
    ranked_by: tuple[Place, ...],
    fields: Fields,
    flags: list[str],
    naive_zone: tzinfo,
) -> list[datetime | None]:
    """Read created, started and completed, all in UTC.

    A time without offset takes the offset of the record's other times (in the order created, started, completed,
    updated, ingested), else ``naive_zone``, and is flagged; an unreadable one is None and flagged.
    """
    moments = [_moment(places, fields) for places in candidates]
    if any(moment is not None and moment is not _UNREADABLE and moment.tzinfo is None for moment in moments):
        flags.append("time_without_offset")
        naive_zone = _zone(moments, ranked_by, fields, naive_zone)
    settled = [_in_utc(moment, naive_zone) for moment in moments]
    flags += [f"{name}_unreadable" for name, moment in zip(_NAMES, settled, strict=True) if moment is _UNREADABLE]
    return [None if moment is _UNREADABLE else moment for moment in settled]


def rank_us(
    candidates: tuple[tuple[Place, ...], ...], ranked_by: tuple[Place, ...], fields: Fields, naive_zone: tzinfo
) -> int:
    """Order a record that tells no completion: by its update, else its ingestion, else below all others."""
    for place in ranked_by:
        moment = _moment((place,), fields)
        if moment is not None and moment is not _UNREADABLE and moment.tzinfo is None:
            naive_zone = _zone([_moment(places, fields) for places in candidates], ranked_by, fields, naive_zone)
        moment = _in_utc(moment, naive_zone)
        if moment is not None and moment is not _UNREADABLE:
            return instants.to_us(moment)
    return NO_RANK


def measured(places: tuple[Place, ...], fields: Fields, flags: list[str]) -> tuple[bool, int | float | None]:
    """Return whether a duration was written down, and its seconds."""
    path, raw = first(places, fields)
    if raw is None:
        return False, None
    return True, values.seconds(raw, 1000 if path == "metadata.processing_time_ms" else 1, flags)


def minutes(places: tuple[Place, ...], fields: Fields, flags: list[str]) -> int | float | None:
    """Return the seconds of the first duration written in minutes that is positive; 0 is a placeholder."""
    for place in places:
        raw = value_at(place, fields)
        found = None if raw is None else values.minutes(raw, flags)
        if found is not None:
            return found
    return None


def _zone(moments: list[datetime | None], ranked_by: tuple[Place, ...], fields: Fields, naive_zone: tzinfo) -> tzinfo:
    """Return the offset of the first of a record's times that has one, else ``naive_zone``."""
    for moment in (*moments, *(_moment((place,), fields) for place in ranked_by)):
        if moment is not None and moment is not _UNREADABLE and moment.tzinfo is not None:
            return moment.tzinfo
    return naive_zone


def _moment(candidates: tuple[Place, ...], fields: Fields) -> datetime | None:
    _, raw = first(candidates, fields)
    if raw is None:
        return None
    try:
        return instants.decode(raw)
    except msgspec.DecodeError:
        return _UNREADABLE


def _in_utc(moment: datetime | None, naive_zone: tzinfo) -> datetime | None:
    if moment is None or moment is _UNREADABLE or moment.tzinfo is UTC:
        return moment
    try:
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=naive_zone)).astimezone(UTC)
    except OverflowError:  # the first or last day of the calendar, moved past its end by the offset
        return _UNREADABLE
