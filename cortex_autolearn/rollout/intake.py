"""Reads what tests are told: the silver lines of their tasks, and their results files as far as these have grown.

What a record or a line means is ``outcomes``' business.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import msgspec

from cortex_autolearn import jsonstream
from cortex_autolearn.jsonstream import Broken
from cortex_autolearn.model import layout, rawjson
from cortex_autolearn.model.experiments import ResultsCursor
from cortex_autolearn.model.ledger import SILVER_ORIGIN
from cortex_autolearn.model.quarantine import content_digest, quarantine_line
from cortex_autolearn.model.records import Rejected
from cortex_autolearn.ports import OutputDamagedError
from cortex_autolearn.rollout.outcomes import Record

if TYPE_CHECKING:
    from cortex_autolearn.canonical import Readers
    from cortex_autolearn.model.experiments import SeenTask
    from cortex_autolearn.ports import Files

STEP_BYTES: Final = 1 << 20
"""A results file is taken in by so many bytes at a time; an object that is longer is quarantined."""
_MARK_BYTES: Final = 4_096

_decode_fields: Final = msgspec.json.Decoder(rawjson.Fields).decode


class _Facts(msgspec.Struct):
    """Of a canonical reading what tells which variant answered."""

    task_id: str
    model: str | None = None
    variant: str | None = None
    experiment: str | None = None
    fallback_from: str | None = None
    cost_usd: float | None = None


class _Line(msgspec.Struct):
    canonical: _Facts


_decode_line: Final = msgspec.json.Decoder(_Line).decode


class Unfit(NamedTuple):
    """A stretch of a results file that is no outcome; ``text`` is None where it is too long."""

    offset: int
    length: int
    reason: str
    text: bytes | None

    @property
    def digest(self) -> bytes:
        """What tells its content from another's at the same place."""
        return content_digest(self.text)

    def line(self, path: str) -> bytes:
        """Return the quarantine line that keeps it, with its line feed."""
        return quarantine_line(path, self.offset, self.length, self.reason, self.text)


class Results(NamedTuple):
    """What a results file holds after a cursor: objects with their place, what is broken, and the next cursor."""

    objects: list[tuple[int, bytes, dict[str, object]]]
    broken: list[Unfit]
    cursor: ResultsCursor
    has_more: bool


class Silver:
    """The silver lines of one ROOT; keeps the file open that was read last, until :meth:`close`.

    Arguments:
        files: the tree below ROOT.
        readers: gives the reader of a file's records, for silver that Cortex wrote.
    """

    def __init__(self, files: Files, readers: Readers) -> None:
        self._files = files
        self._readers = readers
        self._open: tuple[str, BinaryIO | None] = ("", None)

    def record(self, row: SeenTask) -> Record:
        """Return a row with what only its line tells; without that where there is no line any more.

        Raises:
            OutputDamagedError: it should stand in our own silver and does not: the medallion can write it again.
        """
        facts = self._foreign(row) if row.origin == SILVER_ORIGIN else self._own(row)
        return Record(
            row.task_id,
            bool(row.final),
            row.status,
            row.created_us,
            row.completed_us,
            row.quality,
            row.own_quality,
            row.duration_s,
            facts.cost_usd,
            facts.variant,
            facts.model,
            facts.experiment,
            facts.fallback_from,
        )

    def close(self) -> None:
        """Close the file that was read last."""
        if self._open[1] is not None:
            self._open[1].close()
        self._open = ("", None)

    def _own(self, row: SeenTask) -> _Facts:
        path = layout.silver_file(row.day)
        if not row.length:
            return _Facts(row.task_id)
        try:
            found = _decode_line(self._read(path, row.position, row.length)).canonical
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = _Facts("")
        if found.task_id != row.task_id:
            raise OutputDamagedError(path, row.position + row.length, self._files.size(path))
        return found

    def _foreign(self, row: SeenTask) -> _Facts:
        raw = self._read(row.path, row.position, row.length)
        try:
            task = self._readers.of(row.path).read(raw, _decode_fields(raw))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _Facts(row.task_id)
        if isinstance(task, Rejected) or task.canonical.task_id != row.task_id:
            return _Facts(row.task_id)
        one = task.canonical
        return _Facts(row.task_id, one.model, one.variant, one.experiment, one.fallback_from, one.cost_usd)

    def _read(self, path: str, position: int, length: int) -> bytes:
        if self._open[0] != path:
            self.close()
            self._open = (path, self._files.open_input(path))
        handle = self._open[1]
        return b"" if handle is None else os.pread(handle.fileno(), length, position)


def read_results(files: Files, test_id: str, cursor: ResultsCursor) -> Results | None:
    """Return what a test's results file holds after a cursor; None where nothing is new.

    A file that was replaced or cut is read from its beginning: what was taken in from it changes nothing again.
    """
    handle = files.open_input(layout.results_file(test_id))
    if handle is None:
        return None
    with handle:
        status = os.fstat(handle.fileno())
        identity = f"{status.st_dev}:{status.st_ino}"
        if cursor.identity == identity and cursor.size == status.st_size and cursor.position <= status.st_size:
            return None
        start = cursor.position
        if start > status.st_size or cursor.mark != _mark(handle, start):
            start = 0
        return _results(handle, start, ResultsCursor(identity, 0, "", status.st_size))


def _results(handle: BinaryIO, start: int, cursor: ResultsCursor) -> Results:
    reader = jsonstream.Reader(start, max_object_bytes=STEP_BYTES // 2)
    items: list[jsonstream.Item] = []
    reached = start
    # What is longer than a step is followed to its end, or what stands behind it would never be read.
    while reader.consumed == start and reached < cursor.size:
        data = os.pread(handle.fileno(), STEP_BYTES, reached)
        if not data:
            break  # it was cut meanwhile
        items += reader.feed(data)
        reached += len(data)
    is_whole = reached >= cursor.size
    if is_whole:
        items += reader.finish()
    found = Results([], [], cursor, has_more=not is_whole and reader.consumed > start)
    for item in items:
        if isinstance(item, Broken):
            found.broken.append(Unfit(item.offset, item.length, item.reason, item.text))
            continue
        try:
            found.objects.append((item[0], item[1], msgspec.json.decode(item[1])))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            found.broken.append(Unfit(item[0], len(item[1]), "unreadable", item[1]))
    position = reader.consumed
    # What follows is read once the file has grown; while more stands there, at once.
    size = cursor.size if is_whole else -1
    moved = ResultsCursor(cursor.identity, position, _mark(handle, position), size)
    return found._replace(cursor=moved)


def _mark(handle: BinaryIO, position: int) -> str:
    start = max(0, position - _MARK_BYTES)
    return sha256(os.pread(handle.fileno(), position - start, start)).hexdigest()[:16] if position else ""
