"""Reads what was asked and answered from the silver line of a task, whoever wrote that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from cortex_autolearn.collect import outcome
from cortex_autolearn.model import layout, rawjson
from cortex_autolearn.model.ledger import SILVER_ORIGIN
from cortex_autolearn.model.records import Rejected
from cortex_autolearn.ports import OutputDamagedError

if TYPE_CHECKING:
    from cortex_autolearn.canonical import Readers
    from cortex_autolearn.model.ledger import Line
    from cortex_autolearn.ports import Files

_decode_fields: Final = msgspec.json.Decoder(rawjson.Fields).decode


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

    def texts(self, row: Line) -> outcome.Texts | None:
        """Read a task's silver line; None when there is none any more.

        Raises:
            OutputDamagedError: it should stand in our own silver and does not: the medallion can write it again.
        """
        if row.origin == SILVER_ORIGIN:
            found = self._foreign_texts(row)
            return None if found is None or found.task_id != row.task_id else found
        if not row.length:
            return None
        path = layout.silver_file(row.day)
        found = outcome.texts_of(self._read(path, row.position, row.length))
        if found is None or found.task_id != row.task_id:
            raise OutputDamagedError(path, row.position + row.length, self._files.size(path))
        return found

    def close(self) -> None:
        """Close the file that was read last."""
        if self._open[1] is not None:
            self._open[1].close()
        self._open = ("", None)

    def _foreign_texts(self, row: Line) -> outcome.Texts | None:
        raw = self._read(row.source_path, row.position, row.length)
        try:
            raw.decode()
            fields = _decode_fields(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        task = self._readers.of(row.source_path).read(raw, fields)
        return None if isinstance(task, Rejected) else outcome.texts(msgspec.json.encode(task.canonical), fields)

    def _read(self, path: str, position: int, length: int) -> bytes:
        if self._open[0] != path:
            self.close()
            self._open = (path, self._files.open_input(path))
        handle = self._open[1]
        return b"" if handle is None else os.pread(handle.fileno(), length, position)
