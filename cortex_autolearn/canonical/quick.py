"""Reads the records that nearly all are: compactly written, without oddities.

What comes again and again in a record (who did it, how it went) is looked up by its spelling together with its JSON,
so that only times, duration and cost are really read. Whatever is not proved to be that plain is left to
:meth:`TaskReader.read`, which gives the same reading of any record.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from cortex_autolearn.canonical import times, values
from cortex_autolearn.canonical.layouts import Layout, State
from cortex_autolearn.canonical.reader import MILLISECONDS, duration, seconds_of, to_utc
from cortex_autolearn.canonical.table import ROWS
from cortex_autolearn.model.ledger import Facts
from cortex_autolearn.model.rawjson import Fields, Place, first
from cortex_autolearn.model.records import COMPACT, SPACED

if TYPE_CHECKING:
    from cortex_autolearn.canonical.reader import TaskReader

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S: Final = 86_400
_MAX_DIGITS: Final = 400
# Bytes are looked for by number, and longer pieces by `find`: `b"x" in data` raises and drops a TypeError first.
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_NUMBERS: Final = (int, float)
_PATHS: Final[dict[str | None, bytes]] = {
    None: b"null",
    **{path: f'"{path}"'.encode() for path in chain(ROWS["input"], ROWS["output"])},
}

_decode: Final = msgspec.json.Decoder().decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_decode_time: Final = msgspec.json.Decoder(datetime | None).decode
_encode: Final = msgspec.json.Encoder().encode


Reading = tuple[Layout, int, str, State, bytes, bytes, int | None, int, Facts]
"""A task: its layout and spacing, id and state, its duration and its canonical reading as JSON, day and rank, and what
else its row holds. A plain tuple, as every record of the fleet makes one."""


class _Times(msgspec.Struct, gc=False):
    """What ``Canonical`` says of time, in its order."""

    created_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: int | float | None


def read(reader: TaskReader, raw: bytes, fields: Fields) -> Reading | None:
    """Read one record if it is plain; None leaves it to the reader.

    Arguments:
        reader: knows the layouts and spellings of the records before it.
        raw: the object's own bytes, valid JSON in UTF-8.
        fields: its top level, as ``jsonstream`` decoded it.
    """
    at = reader.layouts.get(tuple(fields)) or reader.layout_of(fields)
    # The proof that no key stands twice: see the reader.
    if at.compact_overhead + sum(map(len, fields.values())) == len(raw):
        spacing = COMPACT
    elif at.is_spaced(raw, fields):
        spacing = SPACED
    else:
        return None
    if not at.is_plain:
        return None
    names = at.names.get(b"\0".join(at.pick_names(fields))) or reader.learn_names(at, fields)
    state = at.states.get(b"\0".join(at.pick_state(fields))) or reader.learn_state(at, fields)
    if names is None or state is None:
        return None
    try:
        written_id = bytes(fields[at.task_id[0].top])
        task_id: str = _decode_text(written_id)
        created, started, completed = [_moment(places, fields) for places in at.times]
        seconds, flags = _lasted(at, fields, state, started or created, completed)
        cost = _cost(at.cost, fields) if at.cost else b"null"
    except (msgspec.DecodeError, OverflowError):
        return None
    if not task_id or not cost:
        return None
    if _BACKSLASH in written_id:
        written_id = _encode(task_id)
    answered, output_chars = _output(at.output, fields) if at.output else (b"null", 0)
    created_us = _to_us(created) if created else None
    completed_us = _to_us(completed) if completed else None
    rank_us = _rank_us(at, fields, reader) if completed_us is None else completed_us
    dated = completed or created
    return (
        at,
        spacing,
        task_id,
        state,
        _encode(seconds),
        b'{"task_id":%b%b%b,"output_field":%b%b%b%b%b%b%b}'
        % (
            written_id,
            names.before,
            _input(at.input, fields) if at.input else b"null",
            answered,
            state.before,
            _encode(_Times(created, started, completed, seconds))[1:-1],
            state.behind,
            names.behind,
            cost,
            flags,
        ),
        dated.year * 10_000 + dated.month * 100 + dated.day if dated else None,
        rank_us,
        (
            names.master,
            state.status,
            seconds,
            state.quality,
            state.retries,
            state.errored,
            output_chars,
            created_us,
            completed_us,
        ),
    )


def _lasted(
    at: Layout, fields: Fields, state: State, begun: datetime | None, completed: datetime | None
) -> tuple[int | float | None, bytes]:
    """Return how many seconds a task took, and its flags; what needs another look raises OverflowError."""
    if at.minutes or (at.seconds and (at.measures_plainly or bytes(fields["metadata"]).find(MILLISECONDS) >= 0)):
        odd: list[str] = []
        seconds = duration(at, fields, begun, completed, odd)
        if odd:
            raise OverflowError
        return seconds, state.flags
    if not (begun and completed):
        return None, state.flags
    elapsed = completed - begun
    if elapsed.days < 0:
        return None, state.reversed_flags
    return seconds_of(elapsed) if elapsed.microseconds else elapsed.days * _DAY_S + elapsed.seconds, state.flags


def _moment(candidates: tuple[Place, ...], fields: Fields) -> datetime | None:
    """Read a time in UTC; one that needs another look at its record raises OverflowError."""
    if not candidates:
        return None
    moment: datetime | None = _decode_time(fields[candidates[0].top])
    if moment is None:
        if len(candidates) > 1 and first(candidates, fields)[1] is not None:
            raise OverflowError
        return None
    return moment if moment.tzinfo is UTC else to_utc(moment)


def _to_us(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * _DAY_S + since.seconds) * 1_000_000 + since.microseconds


def _rank_us(at: Layout, fields: Fields, reader: TaskReader) -> int:
    """Return when a task that did not complete was told of last."""
    return times.rank_us(at.times, at.ranked_by, fields, reader.naive_zone) if at.ranked_by else times.NO_RANK


def _cost(candidates: tuple[Place, ...], fields: Fields) -> bytes:
    """Return a price as JSON; nothing where it is odd."""
    raw = fields[candidates[0].top]
    if len(candidates) > 1 or len(raw) > _MAX_DIGITS:
        return b""
    value = _decode(raw)
    if value is None or (type(value) in _NUMBERS and 0 <= value < values.MAX_MEASURE):
        return _encode(value)
    return b""


def _input(candidates: tuple[Place, ...], fields: Fields) -> bytes:
    """Return, as JSON, where the record says what was asked."""
    path, top, below = candidates[0]
    if not below:
        raw = bytes(fields[top])
        if raw[0] == _QUOTE and len(raw) > 2:
            return _PATHS[path]
    return _PATHS[first(candidates, fields)[0]]


def _output(candidates: tuple[Place, ...], fields: Fields) -> tuple[bytes, int]:
    """Return, as JSON, where the record says what came back, and how much of that can be seen."""
    path, top, below = candidates[0]
    if not below:
        raw = bytes(fields[top])
        if raw[0] == _QUOTE and len(raw) > 2:
            return _PATHS[path], values.meaningful_chars(raw)
    other, found = first(candidates, fields)
    return _PATHS[other], 0 if found is None else values.meaningful_chars(found)
