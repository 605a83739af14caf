"""Files that are committed together with the state.

An append goes to the file first; the transaction then commits the new length. What stands beyond the committed length
was never committed and is cut back: when the state is opened, and before the next append or rewriting; what another
program appended is copied aside first (``tails``). A file that is new or rewritten whole is written to a temporary file
first; the transaction commits its length together with its name, and the rename follows: if a kill comes between, the
next transaction finds the name and renames. So at every instant the file (or its staged successor) and the rows that
point into it agree, and a file without a row is never ours: it is set aside, not overwritten.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.store import tails
from cortex_autolearn.ports import BoundaryError, OutputDamagedError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cortex_autolearn.adapters.tree import Tree

_PARTS_AT_ONCE: Final = 1_024  # more of them the kernel does not take
_MAX_OPEN: Final = 128  # one step may touch many days, and file descriptors are few
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Outputs:
    """The files of one transaction: opened on first use, fsynced by :meth:`sync`, always closed."""

    def __init__(self, connection: sqlite3.Connection, tree: Tree) -> None:
        self._connection = connection
        self._tree = tree
        self._open: dict[str, int] = {}
        self._lengths: dict[str, int] = {}
        self._begun: dict[str, list[bytes]] = {}
        self._staged: list[Path] = []
        self._rewritten: set[str] = set()

    def append(self, relative: str, data: bytes | Sequence[bytes]) -> int:
        """Append bytes, or lines one after the other, and return the offset they start at.

        Raises:
            OutputDamagedError: the file is shorter than what was committed of it.
            BoundaryError: it cannot be written.
        """
        assert relative not in self._rewritten, "a file that is staged is not appended to in the same transaction"
        parts = [data] if isinstance(data, bytes) else data
        if relative in self._begun or self._committed(relative) is None:
            self._begun.setdefault(relative, []).extend(parts)
            start = self._lengths.get(relative, 0)
        else:
            start = self._open_at_end(relative)
            with files.wrap("append to", relative):
                _write_at(self._open[relative], parts, start)
        self._lengths[relative] = start + sum(map(len, parts))
        return start

    def length(self, relative: str) -> int:
        """Return the committed length of a file plus what this transaction appended."""
        if relative in self._lengths:
            return self._lengths[relative]
        return self._committed(relative) or 0

    def stage(self, relative: str, data: Iterable[bytes]) -> None:
        """Write the successor of a file; it takes its place after the transaction has committed."""
        appended_end = self._lengths.get(relative, 0)
        self.close(relative)
        path = self._tree.path(relative)
        committed = self._committed(relative)
        if committed is None:
            self._set_aside(path)
        elif relative not in self._rewritten:
            self._keep_foreign(relative, max(committed, appended_end))
        temporary = files.stage(path, data, self._tree.root)
        self._staged.append(temporary)
        self._rewritten.add(relative)
        with files.wrap("read", temporary):
            length = temporary.stat().st_size
        self._connection.execute(
            "INSERT INTO outputs (path, length, staged) VALUES (?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET length = excluded.length, staged = excluded.staged",
            (relative, length, temporary.name),
        )

    def cut_back(self) -> None:
        """Cut every output file back to its committed length.

        One whose end is another writer's and cannot be kept, the disk being full say, stays as it is: nothing reads
        beyond the committed length, and whoever appends there next is refused for the same reason.
        """
        for relative, length in self._connection.execute("SELECT path, length FROM outputs").fetchall():
            with suppress(tails.NotKeptError):
                self._cut(relative, length)

    def sync(self) -> None:
        """Make every appended byte durable and note the new lengths in the transaction."""
        begun, self._begun = self._begun, {}
        for relative, parts in begun.items():
            self.stage(relative, parts)
        self._sync_open()
        self._connection.executemany(
            "UPDATE outputs SET length = ? WHERE path = ?",
            [(length, relative) for relative, length in self._lengths.items()],
        )

    def close(self, relative: str | None = None) -> None:
        """Close one file, or all."""
        for name in [relative] if relative is not None else list(self._open):
            opened = self._open.pop(name, None)
            self._lengths.pop(name, None)
            self._begun.pop(name, None)
            if opened is not None:
                os.close(opened)

    def abandon(self) -> None:
        """Take back what a transaction wrote that did not commit, as far as the disk allows.

        What it does not allow is no harm: nothing of it was committed, and the next append or opening cuts it. But a
        file of a day that is over may wait long for either, and others who read it would meet lines that never counted.
        """
        appended = dict(self._lengths)
        self.close()
        # A commit that failed may yet have happened: what the state names is needed.
        rows = self._connection.execute("SELECT staged FROM outputs WHERE staged IS NOT NULL")
        named = {name for (name,) in rows}
        for temporary in self._staged:
            if temporary.name not in named:
                with suppress(OSError):
                    temporary.unlink()
        for relative, appended_end in appended.items():
            length = self._committed(relative)
            if length is not None:
                with suppress(BoundaryError):
                    self._cut(relative, length, appended_end)

    def publish(self) -> None:
        """Rename every staged file to its place, this transaction's and those of a killed process."""
        rows = self._connection.execute("SELECT path, staged, length FROM outputs WHERE staged IS NOT NULL").fetchall()
        if not rows:
            return
        for relative, staged, length in rows:
            path = self._tree.path(relative)
            with files.wrap("replace", path):
                # It may have been removed meanwhile: then the file is mended.
                files.make_folder(path.parent, self._tree.root)
                if path.is_dir():
                    self._set_aside(path)
                try:
                    os.rename(path.with_name(staged), path)
                except FileNotFoundError:
                    # Renamed already, by a process that was killed before the row said so; or the successor is lost.
                    # Then what stands here is older than the rows that point into it: set aside, it is mended.
                    if self._tree.size(relative) != length:
                        self._set_aside(path)
            files.fsync_dir(path.parent)
        with self._connection:
            self._connection.execute("UPDATE outputs SET staged = NULL WHERE staged IS NOT NULL")

    def _cut(self, relative: str, length: int, appended_end: int = 0) -> None:
        """Cut a file back; what stands before ``appended_end`` is known to be ours, the rest is looked at first."""
        if self._tree.size(relative) > length:
            path = self._tree.path(relative)
            with files.wrap("cut back", path):
                opened = os.open(path, _FLAGS)
                try:
                    tails.keep_foreign(path, relative, opened, max(length, appended_end))
                    os.ftruncate(opened, length)
                finally:
                    os.close(opened)

    def _keep_foreign(self, relative: str, start: int) -> None:
        """Keep what another writer appended to a file that is about to be replaced."""
        path = self._tree.path(relative)
        if self._tree.size(relative) > start and not path.is_symlink():
            with files.wrap("read", path):
                opened = os.open(path, _FLAGS)
                try:
                    tails.keep_foreign(path, relative, opened, start)
                finally:
                    os.close(opened)

    def _committed(self, relative: str) -> int | None:
        row = self._connection.execute("SELECT length FROM outputs WHERE path = ?", (relative,)).fetchone()
        return None if row is None else int(row[0])

    def _set_aside(self, path: Path) -> None:
        """Give a file that is not ours, and stands where ours belongs, a name under which nobody takes it for ours."""
        with files.wrap("set aside", path), suppress(FileNotFoundError):
            os.rename(path, path.with_name(f"{path.name}.orphan-{path.lstat().st_mtime_ns}"))

    def _open_at_end(self, relative: str) -> int:
        """Open a file on its first append, cut back what was never committed, and return where it ends."""
        if relative in self._open:
            return self._lengths[relative]
        length = self.length(relative)
        path = self._tree.path(relative)
        with files.wrap("open for appending", path):
            files.make_folder(path.parent, self._tree.root)
            opened = os.open(path, _FLAGS | os.O_CREAT, 0o644)
        try:
            with files.wrap("open for appending", path):
                size = os.fstat(opened).st_size
                if size > length:
                    tails.keep_foreign(path, relative, opened, length)
                    os.ftruncate(opened, length)
            if size < length:
                raise OutputDamagedError(relative, length, size)
        except BaseException:
            os.close(opened)
            raise
        if len(self._open) >= _MAX_OPEN:
            self._sync_open()
        self._open[relative] = opened
        self._lengths[relative] = length
        return length

    def _sync_open(self) -> None:
        """Make what was appended so far durable and close its files; their lengths stay noted."""
        for relative, opened in self._open.items():
            with files.wrap("sync", relative):
                os.fsync(opened)
        while self._open:
            os.close(self._open.popitem()[1])


def _write_at(opened: int, parts: Sequence[bytes], start: int) -> None:
    # The kernel gathers the parts: to join them here would take longer than the writing itself.
    for begin in range(0, len(parts), _PARTS_AT_ONCE):
        gathered = parts[begin : begin + _PARTS_AT_ONCE]
        size = sum(map(len, gathered))
        written = os.pwritev(opened, gathered, start)
        if written < size:  # the disk is nearly full, say: the rest meets the error, or is written after all
            with memoryview(b"".join(gathered)) as view:
                while written < size:
                    written += os.pwrite(opened, view[written:], start + written)
        start += size
