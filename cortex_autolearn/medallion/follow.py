"""Reads what is new in a folder of JSON files and hands it on in steps.

One step is a bounded stretch of one file, or many small files, together with the cursors behind them: one transaction.
Which file is which is ``bronze``'s rule; what the objects mean is not asked here.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from cortex_autolearn.jsonstream import Broken, Reader
from cortex_autolearn.medallion import bronze
from cortex_autolearn.model import instants, layout
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cortex_autolearn.jsonstream import Object
    from cortex_autolearn.model.ledger import Source
    from cortex_autolearn.ports import Clock, Files, RefiningStore, RefiningTransaction, RunHandle

_CHUNK_BYTES: Final = 128 << 10  # small enough that what a chunk holds stays in the processor's cache
_STEP_BYTES: Final = 4 << 20
_STEP_FILES: Final = 500


@dataclass
class Counts:
    """What one run did; adds up: ``objects = silver + superseded + quarantined_objects``."""

    files: int = 0
    bytes_read: int = 0
    objects: int = 0
    silver: int = 0
    superseded: int = 0
    quarantined: int = 0
    quarantined_objects: int = 0
    days: set[int] = field(default_factory=set)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as they are recorded and printed."""
        return {**vars(self), "days": [layout.day_text(day) for day in sorted(self.days)]}


class _UnreadableError(BoundaryError):
    """A file that is followed cannot be read; the others can."""


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except BoundaryError as error:
        raise _UnreadableError(
            error.operation, error.subject, error.cause, hint=error.hint, retryable=error.retryable
        ) from error
    except OSError as error:
        hint = "Look at its disk or mount; the next run tries again"
        raise _UnreadableError("read", path, error.strerror or str(error), hint=hint, retryable=True) from error


class Batch(Protocol):
    """Objects of one file that are settled together."""

    def take(self, items: list[Object | Broken]) -> None:
        """Make of the file's next objects whatever can be made without the state."""

    def settle(self, transaction: RefiningTransaction, source: Source) -> None:
        """Store what was taken."""


class Intake(Protocol):
    """What becomes of the objects that a follower reads."""

    def batch(self, path: str) -> Batch:
        """Begin to take objects of a file."""


class Follower:
    """Follows the files of one folder.

    Arguments:
        folder: below ROOT.
        wanted: tells by its path whether a file is to be read.
        tail_grace_s: after so long without growth an unfinished end of a file is taken as broken.
        max_object_bytes: a larger object is quarantined by position.
    """

    def __init__(
        self,
        store: RefiningStore,
        files: Files,
        clock: Clock,
        *,
        folder: str,
        wanted: Callable[[str], bool],
        tail_grace_s: int,
        max_object_bytes: int,
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._folder = folder
        self._wanted = wanted
        self._tail_grace_s = tail_grace_s
        self._max_object_bytes = max_object_bytes

    def run(self, run: RunHandle, counts: Counts, intake: Intake) -> None:
        """Read everything that is new; ``intake`` settles inside of the steps' transactions.

        A file that cannot be read is told to ``run`` and left for the next time; the others are read.
        """
        plans, known = self._plans()
        plans = [self._recognised(plan, known) for plan in plans]
        renamed = [plan.source for plan in plans if plan.source is not None and _is_renamed(plan, known)]
        if renamed:
            with self._store.write() as transaction:
                transaction.rename_sources(renamed)
        steps = _Steps(self._store, run, counts, bronze.unread_bytes(plans))
        for plan in plans:
            try:
                with _reading(plan.found.path):
                    handle = self._files.open_input(plan.found.path)
                if handle is not None:
                    with handle:
                        _File(plan, handle, self._clock, counts, self._max_object_bytes).read(intake, steps)
            except _UnreadableError as error:
                run.trouble(error)
        steps.commit()

    def has_unread(self) -> bool:
        """Tell whether bytes came that were not read; an end that waits for its rest is none."""
        return any(not plan.closed for plan in self._plans()[0])

    def _plans(self) -> tuple[list[bronze.Growth], dict[int, Source]]:
        """Return the files that need reading, and what is known of the folder, by id."""
        found = [
            bronze.Found(one.relative, f"{one.device}:{one.inode}", one.size, one.mtime_ns)
            for one in self._files.entries(self._folder, ".jsonl")
            if self._wanted(one.relative)
        ]
        with self._store.read() as reading:
            known = {source.id: source for source in reading.sources(self._folder)}
        plans = bronze.growth(known.values(), found, instants.to_us(self._clock.now()), self._tail_grace_s)
        return plans, known

    def _recognised(self, plan: bronze.Growth, known: dict[int, Source]) -> bronze.Growth:
        """Make sure that a file with a new name is the one it is taken for: inodes are used again."""
        if plan.source is None or not _is_renamed(plan, known):
            return plan
        try:
            with _reading(plan.found.path):
                handle = self._files.open_input(plan.found.path)
                if handle is not None:
                    with handle:
                        if _mark(handle, plan.source.position) == plan.source.mark:
                            return plan
        except _UnreadableError:
            pass  # read as a new file, it is told then
        return bronze.Growth(None, plan.found, closed=False)


def _mark(handle: BinaryIO, position: int) -> bytes:
    """Return the mark of an open file at a position."""
    if not position:
        return b""
    opened, tail_bytes = handle.fileno(), min(position, bronze.TAIL_BYTES)
    head = os.pread(opened, min(position, bronze.HEAD_BYTES), 0)
    return bronze.mark(head, os.pread(opened, tail_bytes, position - tail_bytes))


def _is_renamed(plan: bronze.Growth, known: dict[int, Source]) -> bool:
    return plan.source is not None and known[plan.source.id].path != plan.source.path


class _Steps:
    """Stretches of files that wait to be committed together."""

    def __init__(self, store: RefiningStore, run: RunHandle, counts: Counts, total_bytes: int) -> None:
        self._store = store
        self._run = run
        self._counts = counts
        self._total_bytes = total_bytes
        self._waiting: list[Callable[[RefiningTransaction], None]] = []
        self._waiting_bytes = 0

    def add(self, settle: Callable[[RefiningTransaction], None], size: int) -> None:
        """Let a stretch wait, or commit it with all that wait when they have become enough."""
        self._waiting.append(settle)
        self._waiting_bytes += size
        if self._waiting_bytes >= _STEP_BYTES or len(self._waiting) >= _STEP_FILES:
            self.commit()

    def commit(self) -> None:
        """Commit what waits."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if waiting:
            with self._store.write() as transaction:
                for settle in waiting:
                    settle(transaction)
                transaction.count_run(self._run.run_id, self._counts.as_dict())
            self._run.progress(self._counts.bytes_read, self._total_bytes)


class _File:
    """One file on its way: from its cursor to its end, stretch by stretch."""

    def __init__(
        self, plan: bronze.Growth, handle: BinaryIO, clock: Clock, counts: Counts, max_object_bytes: int
    ) -> None:
        self._plan = plan
        self._handle = handle
        self._clock = clock
        self._counts = counts
        self._source = plan.source
        position = 0
        with _reading(plan.found.path):
            self._status = os.fstat(handle.fileno())
            if plan.source is not None and _mark(handle, plan.source.position) == plan.source.mark:
                position = min(plan.source.position, self._status.st_size)
        self._position = position
        self._reader = Reader(position, max_object_bytes=max_object_bytes)

    def read(self, intake: Intake, steps: _Steps) -> None:
        """Read to the end that the file had when it was opened."""
        path = self._plan.found.path
        with _reading(path):
            self._handle.seek(self._position)
        remaining = self._status.st_size - self._position
        batch = intake.batch(path)
        begun = self._position
        while remaining > 0:
            with _reading(path):
                chunk = self._handle.read(min(_CHUNK_BYTES, remaining))
            if not chunk:
                break
            remaining -= len(chunk)
            self._counts.bytes_read += len(chunk)
            batch.take(self._reader.feed(chunk))
            if self._reader.consumed - begun >= _STEP_BYTES:
                steps.add(self._settling(batch, at_end=False), _STEP_BYTES)
                batch, begun = intake.batch(path), self._reader.consumed
        batch.take(self._reader.finish(closed=self._plan.closed and self._status.st_size == self._plan.found.size))
        self._counts.files += 1
        steps.add(self._settling(batch, at_end=True), self._reader.consumed - begun)

    def _settling(self, batch: Batch, *, at_end: bool) -> Callable[[RefiningTransaction], None]:
        """Return what is to be done in a transaction: settle a batch and move the cursor behind it."""
        position = self._reader.consumed
        with _reading(self._plan.found.path):
            mark = _mark(self._handle, position)

        def settle(transaction: RefiningTransaction) -> None:
            now_us = instants.to_us(self._clock.now())
            source = self._source
            if source is None:
                source = transaction.add_source(self._plan.found.path, self._plan.found.identity, now_us)
            grown = self._status.st_size != source.size
            self._source = source._replace(
                identity=f"{self._status.st_dev}:{self._status.st_ino}",
                mark=mark,
                position=position,
                # Until the end is reached the file counts as changed, so that a killed run is continued.
                size=self._status.st_size if at_end else source.size,
                mtime_ns=self._status.st_mtime_ns if at_end else 0,
                grown_us=now_us if grown else source.grown_us,
            )
            transaction.save_source(self._source)
            batch.settle(transaction, self._source)

        return settle
