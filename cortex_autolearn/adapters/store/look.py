"""Looks at the state without any right to write: creates nothing, locks nothing, and finds an empty one where none is.

For the commands that only tell, which may be called by another user than the daemon's.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.adapters.files import wrap
from cortex_autolearn.adapters.store.database import Reading, Store, database_errors, migrate
from cortex_autolearn.adapters.tree import Tree
from cortex_autolearn.model import layout
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cortex_autolearn.adapters.store.database import Transaction

_BUSY_TIMEOUT_S: Final = 60


class Damaged(NamedTuple):
    """An output file that is shorter than what was committed of it; both in bytes."""

    path: str
    length: int
    size: int


class Look(Store):
    """A store that can only be read; what would write is a bug of the caller's."""

    def __init__(self, tree: Tree) -> None:  # no lock is taken and no connection kept, so nothing of Store's is needed
        self._path = tree.path(layout.STATE)

    def close(self) -> None:
        """Do nothing: nothing is open between two looks."""

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Refuse."""
        raise AssertionError("a look at the state writes nothing")
        yield

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """Look at one consistent state, without waiting for a writer.

        Raises:
            BoundaryError: it cannot be read, is no database, or was written by another version.
        """
        connection = look_at(self._path)
        with database_errors(self._path):
            try:
                connection.execute("BEGIN")
                yield Reading(connection)
            finally:
                connection.close()

    def flush_events(self) -> None:
        """Do nothing: whoever writes next does it."""


def look_at(path: Path) -> sqlite3.Connection:
    """Open the state at ``path`` for reading only; one that holds nothing where there is no file.

    Raises:
        BoundaryError: it cannot be read, is no database, or was written by another version.
    """
    with database_errors(path):
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        migrate(connection, path)
        newest = _version(connection)
        with wrap("look at", path):
            is_there = path.exists() and path.stat().st_size > 0
        if not is_there:
            return connection
        connection.close()
        connection = _connect(path)
        version = _version(connection)
    if version == newest:
        return connection
    connection.close()
    hint = "Install the cortex-autolearn that wrote it, or a newer one"
    if version < newest:
        hint = "Start the daemon, or run any job by hand: either brings it up to date"
    cause = f"its schema is version {version}, this package knows {newest}"
    raise BoundaryError("read", str(path), cause, hint=hint, retryable=False)


def damaged_outputs(reading: Reading, tree: Tree) -> list[Damaged]:
    """Return the files of ours that are gone or shorter than committed; one whose successor waits has that one's size.

    Raises:
        BoundaryError: a folder cannot be searched.
    """
    damaged = []
    for path, length, staged in reading.connection.execute("SELECT path, length, staged FROM outputs ORDER BY path"):
        size = tree.size(path)
        if size < length and staged is not None:
            size = max(size, tree.size(f"{path.rpartition('/')[0]}/{staged}"))
        if size < length:
            damaged.append(Damaged(path, length, size))
    return damaged


def lost_outcomes(reading: Reading) -> int:
    """Return how many collected outcomes have no line in any file."""
    return int(reading.connection.execute("SELECT count(*) FROM outcomes WHERE length = 0").fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return _try(f"{path.as_uri()}?mode=ro")
    except sqlite3.OperationalError:
        # Without a right to write, the helper files that SQLite wants cannot be made. Where there are none, nobody
        # has the state open, and the database itself is all there is.
        if path.with_name(f"{path.name}-wal").exists():
            raise
        return _try(f"{path.as_uri()}?mode=ro&immutable=1")


def _try(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
