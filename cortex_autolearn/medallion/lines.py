"""Lines and records of a file, by where they stand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cortex_autolearn.jsonstream import MAX_OBJECT_BYTES, Broken, Reader
from cortex_autolearn.model.records import Task
from cortex_autolearn.ports import OutputDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cortex_autolearn.canonical import TaskReader
    from cortex_autolearn.jsonstream import Object
    from cortex_autolearn.medallion.silver import Refiner
    from cortex_autolearn.ports import Files

_COPY_BYTES: Final = 1 << 20
_RECORD_BYTES: Final = 2 << 10  # mostly enough for one; whatever follows it is read in vain


class Lines:
    """Lines of one file, by position; a file that is gone has none.

    Arguments:
        files: the tree below ROOT.
        path: below ROOT.
        max_object_bytes: how long a record of it may be, as for who read it first.
    """

    def __init__(self, files: Files, path: str, max_object_bytes: int = MAX_OBJECT_BYTES) -> None:
        self._path = path
        self._max_object_bytes = max_object_bytes
        self._handle = files.open_input(path)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.close()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._handle or ())

    def at(self, position: int, length: int) -> bytes:
        """Return the bytes at a position."""
        return b"" if self._handle is None else os.pread(self._handle.fileno(), length, position)

    def gather(self, spans: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """Yield the bytes of many spans in their order, neighbours in one piece."""
        start = end = 0
        for position, length in spans:
            if position != end or end - start > _COPY_BYTES:
                if end > start:
                    yield self._all(start, end)
                start = position
            end = position + length
        if end > start:
            yield self._all(start, end)

    def refine(self, offset: int, task_id: str, reader: TaskReader, refiner: Refiner) -> bytes:
        """Return the silver line of the record at an offset; nothing when another one stands there now."""
        stream = Reader(offset, max_object_bytes=self._max_object_bytes)
        items: list[Object | Broken] = []
        position, size = offset, _RECORD_BYTES
        while not items:
            chunk = self.at(position, size)
            size = min(2 * size, _COPY_BYTES)
            items = stream.feed(chunk) if chunk else stream.finish()
            position += len(chunk)
            if not chunk:
                break
        if not items or isinstance(items[0], Broken) or items[0][0] != offset:
            return b""
        _, raw, fields = items[0]
        task = reader.read(raw, fields)
        same = isinstance(task, Task) and task.canonical.task_id == task_id
        return refiner.line(raw, fields, task) if same and isinstance(task, Task) else b""

    def _all(self, start: int, end: int) -> bytes:
        data = self.at(start, end - start)
        if len(data) < end - start:
            raise OutputDamagedError(self._path, end, start + len(data))
        return data
