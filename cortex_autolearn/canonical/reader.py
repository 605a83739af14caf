"""Puts a task together from the fields of one record.

Speed matters here: every record of the fleet passes through :meth:`TaskReader.read`. Records of one writer have the
same keys in the same order, so what can be known from the keys alone is worked out once per such *layout*, and short
values that come again and again (a status, a master, a retry count) are read once per spelling; ``layouts`` holds both.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from cortex_autolearn.canonical import times, values
from cortex_autolearn.canonical.layouts import END_BEFORE_START, Group, Layout, Names, Read, State, nothing
from cortex_autolearn.canonical.table import ANY_MASTER, KNOWN_MASTERS, ROWS
from cortex_autolearn.model import instants, rawjson
from cortex_autolearn.model.layout import master_name
from cortex_autolearn.model.rawjson import Fields, Place, first
from cortex_autolearn.model.records import COMPACT, FINAL_STATUSES, LOOSE, SPACED, Canonical, Rejected, Task

_SHORT_ROWS: Final = (
    ("master", "task_type", "model", "variant", "experiment", "fallback_from"),
    ("status", "quality", "error", "retries"),
)
"""Rows whose values are short and come again and again together, in the order in which :meth:`TaskReader.read` uses
them: two groups, because each has few combinations and both together have many."""

MAX_KEPT_KEYS: Final = 256
"""Layouts of more keys are not remembered: they hold text of their own, mostly, and would hold it for ever."""
_MAX_CACHED: Final = 8_192
_MAX_SPELLING: Final = 300  # bytes; longer values are not likely to come again
MILLISECONDS: Final = b"processing_time_ms"
_decode_text: Final = msgspec.json.Decoder(str).decode

_K = TypeVar("_K")
_V = TypeVar("_V")


class ScoreScale(NamedTuple):
    """A declared scale of a source's scores, mapped linearly onto 1 to 5: ``low`` becomes 1, ``high`` 5."""

    field: str
    low: float
    high: float


class TaskReader:
    """Reads task records: one instance for many records, so that layouts and spellings are learned once.

    Arguments:
        known_masters: names (without ``-master``) that count as masters where a field may also name something else.
        naive_zone: the zone of times without offset, when no other time of the record has one.
        scale: how this source's quality scores map onto 1 to 5; None takes them as they stand.
    """

    def __init__(
        self,
        known_masters: frozenset[str] = KNOWN_MASTERS,
        naive_zone: tzinfo = UTC,
        scale: ScoreScale | None = None,
    ) -> None:
        self._known_masters = KNOWN_MASTERS | known_masters
        self.naive_zone = naive_zone
        self._scale = scale
        self.layouts: dict[tuple[str, ...], Layout] = {}
        self._meanings: dict[tuple[tuple[Place, ...], ...], dict[bytes, tuple[Any, ...]]] = {}
        self._names: dict[tuple[tuple[Place, ...], ...], dict[bytes, Names]] = {}
        self._states: dict[tuple[tuple[Place, ...], ...], dict[bytes, State]] = {}
        self._rows = {row: rawjson.places(paths) for row, paths in ROWS.items()}
        if scale is not None:
            self._rows["quality"] = rawjson.places((scale.field, *ROWS["quality"]))
        self._readers: dict[str, Read] = dict.fromkeys(chain.from_iterable(_SHORT_ROWS), values.text)
        self._readers |= {"master": self._master, "quality": self._quality}
        self._readers |= {"status": values.status, "error": values.error, "retries": values.retries}

    def read(self, raw: bytes, fields: Fields) -> Task | Rejected:
        """Read one record.

        Arguments:
            raw: the object's own bytes, valid JSON in UTF-8.
            fields: its top level, as ``jsonstream`` decoded it.

        Returns:
            The task, or the reason why the object cannot be one.
        """
        at = self.layouts.get(tuple(fields)) or self.layout_of(fields)
        # Without white space between tokens the parts add up exactly unless a key stands twice: the cheap proof.
        spacing = COMPACT
        if at.compact_overhead + sum(map(len, fields.values())) != len(raw):
            spacing = SPACED if at.is_spaced(raw, fields) else LOOSE
        if spacing == LOOSE:
            repeated = rawjson.repeated_key(raw)
            if repeated is not None:
                return Rejected(f"the key {repeated!r} stands twice")
        try:
            task_id = _decode_text(fields[at.task_id[0].top]) or _task_id(at.task_id, fields)
        except (msgspec.DecodeError, IndexError):
            task_id = _task_id(at.task_id, fields)
        if isinstance(task_id, Rejected):
            return task_id
        flags: list[str] = []
        short: list[Any] = []
        for group in at.short:
            spelling = b"\0".join(group.pick(fields))
            short += group.meanings.get(spelling) or _read_group(group, spelling, fields, flags)
        if not at.has_status:
            flags.append("no_status")
        created, started, completed = self._times(at, fields, flags)
        seconds = duration(at, fields, started or created, completed, flags)
        output_field, output = first(at.output, fields)
        master, task_type, model, variant, experiment, fallback_from, status, quality, error, retries = short
        canonical = Canonical(
            task_id,
            master,
            task_type,
            first(at.input, fields)[0],
            output_field,
            status,
            quality,
            created,
            started,
            completed,
            seconds,
            error,
            retries or 0,
            model,
            variant,
            experiment,
            fallback_from,
            values.cost_usd(at.cost, fields, flags) if at.cost else None,
            flags,
        )
        dated = completed or created
        completed_us = None if completed is None else instants.to_us(completed)
        return Task(
            at,
            spacing,
            canonical,
            None if dated is None else dated.year * 10_000 + dated.month * 100 + dated.day,
            status in FINAL_STATUSES,
            times.rank_us(at.times, at.ranked_by, fields, self.naive_zone) if completed_us is None else completed_us,
            None if created is None else instants.to_us(created),
            completed_us,
            0 if output is None else values.meaningful_chars(output),
        )

    def _times(self, at: Layout, fields: Fields, flags: list[str]) -> list[datetime | None]:
        found: list[datetime | None] = []
        try:
            for candidates in at.times:
                moment = instants.decode(fields[candidates[0].top]) if candidates else None
                if moment is not None and moment.tzinfo is not UTC:
                    moment = to_utc(moment)
                found.append(moment)
        except (msgspec.DecodeError, OverflowError):
            return times.settle(at.times, at.ranked_by, fields, flags, self.naive_zone)
        return found

    def layout_of(self, fields: Fields) -> Layout:
        """Return what follows from the keys of a record, worked out once where they are not too many to be kept."""
        keys = tuple(fields)
        if len(keys) > MAX_KEPT_KEYS:
            return self._work_out(keys)
        return self.layouts.get(keys) or _remember(self.layouts, keys, self._work_out(keys))

    def learn_names(self, at: Layout, fields: Fields) -> Names | None:
        """Return what the first short rows of a record mean where their spelling decides it without a flag."""
        spelling, meaning, flags = _decided(at.short[0], fields)
        return None if meaning is None or flags else _remember(at.names, spelling, Names(meaning))

    def learn_state(self, at: Layout, fields: Fields) -> State | None:
        """Return what the other short rows of a record mean where their spelling decides it."""
        spelling, meaning, flags = _decided(at.short[1], fields)
        return None if meaning is None else _remember(at.states, spelling, State(meaning, flags))

    def _work_out(self, keys: tuple[str, ...]) -> Layout:
        known = frozenset(keys)  # asked for each place that a value may have

        def present(row: str) -> tuple[Place, ...]:
            return tuple(place for place in self._rows[row] if place.top in known)

        layout = Layout(keys, present)
        groups = []
        for names in _SHORT_ROWS:
            rows = tuple((present(name), self._readers[name]) for name in names)
            tops = [candidates[0].top for candidates, _ in rows if candidates]
            # What a spelling means depends on which places there are, so layouts with the same places share it.
            meanings = self._meanings.setdefault(tuple(candidates for candidates, _ in rows), {})
            # An itemgetter of one key gives no tuple; a key twice does no harm.
            groups.append(Group(itemgetter(*tops, tops[0]) if tops else nothing, meanings, rows))
        layout.short = tuple(groups)
        layout.pick_names, layout.pick_state = (group.pick for group in groups)
        of_names, of_state = (tuple(candidates for candidates, _ in group.rows) for group in groups)
        layout.names = self._names.setdefault(of_names, {})
        layout.states = self._states.setdefault(of_state, {})
        return layout

    def _master(self, candidates: tuple[Place, ...], fields: Fields, flags: list[str]) -> str | None:
        for place in candidates:
            raw = rawjson.value_at(place, fields)
            written = None if raw is None else rawjson.scalar_text(raw)
            name = master_name(written)
            if place.path in ANY_MASTER:
                if name is not None:
                    return name
                if raw is not None:
                    flags.append("master_unusable")
            elif name is not None and written is not None:
                suffixed = written.strip().lower().endswith(("-master", "-agent"))
                if suffixed or name.removesuffix("-master") in self._known_masters:
                    return name
        return None

    def _quality(self, candidates: tuple[Place, ...], fields: Fields, flags: list[str]) -> int | float | None:
        path, raw = first(candidates, fields)
        if raw is None:
            return None
        score = rawjson.number(raw)
        if score is None:
            flags.append("quality_not_a_number")
            return None
        if self._scale is not None and path == self._scale.field:
            score = 1 + 4 * (score - self._scale.low) / (self._scale.high - self._scale.low)
        if not 1 <= score <= 5:
            flags.append("quality_out_of_range")
            return None
        return score


def _task_id(candidates: tuple[Place, ...], fields: Fields) -> str | Rejected:
    _, raw = first(candidates, fields)
    if raw is None:
        return Rejected("no task id")
    return rawjson.scalar_text(raw) or Rejected("the task id is neither text nor a number")


def to_utc(moment: datetime) -> datetime:
    """Return an aware time in UTC; OverflowError where that needs another look at its record."""
    if moment.tzinfo is None:
        raise OverflowError  # an offset must be found first: the long way
    return moment.astimezone(UTC)


def duration(
    at: Layout, fields: Fields, begin: datetime | None, end: datetime | None, flags: list[str]
) -> int | float | None:
    """Return the seconds a task took: measured, else between its times, else its positive minutes."""
    if at.seconds and (at.measures_plainly or bytes(fields["metadata"]).find(MILLISECONDS) >= 0):
        found, seconds = times.measured(at.seconds, fields, flags)
        if found:
            return seconds
    if begin is not None and end is not None:
        elapsed = seconds_of(end - begin)
        if elapsed < 0:
            flags.append(END_BEFORE_START)
            return None
        return elapsed
    return times.minutes(at.minutes, fields, flags) if at.minutes else None


def seconds_of(elapsed: timedelta) -> int | float:
    """Return a length of time in seconds; a whole number where it is one."""
    seconds = elapsed.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _decided(group: Group, fields: Fields) -> tuple[bytes, tuple[Any, ...] | None, list[str]]:
    """Return how short rows are spelled, what they mean and their flags; no meaning where that spelling may mislead."""
    spelling = b"\0".join(group.pick(fields))
    meaning, flags, decided = _read_rows(group, spelling, fields)
    return spelling, meaning if decided else None, flags


def _read_rows(group: Group, spelling: bytes, fields: Fields) -> tuple[tuple[Any, ...], list[str], bool]:
    """Return what short rows mean, their flags, and whether the spelling of their first candidates decides both.

    With one candidate it does; with several, only when the first gives the answer by itself.
    """
    flags: list[str] = []
    meaning = []
    decided = len(spelling) <= _MAX_SPELLING
    for candidates, read in group.rows:
        before = len(flags)
        value = read(candidates, fields, flags) if candidates else None
        meaning.append(value)
        decided = decided and (
            len(candidates) < 2 or (len(flags) == before and _alone(candidates, read, fields, value))
        )
    return tuple(meaning), flags, decided


def _alone(candidates: tuple[Place, ...], read: Read, fields: Fields, value: object) -> bool:
    """Tell whether the first of several candidates gives the answer by itself."""
    return value is not None and bool(read(candidates[:1], fields, []) == value)


def _read_group(group: Group, spelling: bytes, fields: Fields, flags: list[str]) -> tuple[Any, ...]:
    """Read short rows the long way; remember what they mean where their spelling decides it, without a flag."""
    meaning, found, decided = _read_rows(group, spelling, fields)
    flags += found
    if decided and not found:
        _remember(group.meanings, spelling, meaning)
    return meaning


def _remember(cache: dict[_K, _V], key: _K, value: _V) -> _V:
    if len(cache) >= _MAX_CACHED:
        cache.clear()
    cache[key] = value
    return value
