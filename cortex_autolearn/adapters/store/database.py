"""Opens the state and runs transactions on it.

One writer at a time, whichever process it lives in: a transaction holds the writer's ``flock`` from its beginning to
its end, so that what it appends to files and what it commits belong together. Readers never wait (WAL).
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import threading
from contextlib import contextmanager, suppress
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import orjson

from cortex_autolearn.adapters import files
from cortex_autolearn.adapters.store.collecting import CollectingTables
from cortex_autolearn.adapters.store.judging import JudgingTables
from cortex_autolearn.adapters.store.outputs import Outputs
from cortex_autolearn.adapters.store.refining import RefiningTables
from cortex_autolearn.adapters.store.rollout import RolloutTables
from cortex_autolearn.adapters.store.running import RunningTables
from cortex_autolearn.adapters.store.scores import ScoreTables
from cortex_autolearn.adapters.store.training import DatasetTables
from cortex_autolearn.adapters.store.training_jobs import TrainingJobTables
from cortex_autolearn.model import instants, layout
from cortex_autolearn.ports import BoundaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from cortex_autolearn.adapters.tree import Tree
    from cortex_autolearn.ports import Clock

DAMAGED: Final = (
    "Stop the daemon. Remove its -wal and -shm, which would damage another state.db, and restore it from a backup, or "
    "move all three away: bronze is read again, and what was collected is kept aside; scores, labels, trainings and "
    "tests are lost then"
)
_BUSY_TIMEOUT_S: Final = 60
_EVENTS_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CACHE_KIB: Final = 8_192
_LOG_BYTES: Final = 16 << 20
"""A log that a large transaction, or a long look beside many, made larger is cut to this when it begins anew."""
_PATIENCE_S: Final = 30.0
"""A transaction takes well under a second: who keeps others waiting for so long is stopped, or hangs in its disk."""
_MAX_SEQ: Final = (1 << 63) - 1  # what SQLite can hold
_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")


class Reading(
    RefiningTables,
    CollectingTables,
    ScoreTables,
    JudgingTables,
    RunningTables,
    DatasetTables,
    TrainingJobTables,
    RolloutTables,
):
    """Every room's questions on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection


class Transaction(Reading):
    """What one transaction may do: change rows, append to and replace files, tell what happened."""

    def __init__(self, connection: sqlite3.Connection, outputs: Outputs, clock: Clock) -> None:
        super().__init__(connection)
        self._files = outputs
        self._clock = clock
        self.told = False

    def append(self, relative: str, data: bytes | Sequence[bytes]) -> int:
        """Append bytes or lines to an output file and return their offset; committed with this transaction."""
        return self._files.append(relative, data)

    def stage(self, relative: str, data: Iterable[bytes]) -> None:
        """Write the successor of an output file; it takes its place when this transaction has committed."""
        self._files.stage(relative, data)

    def output_length(self, relative: str) -> int:
        """Return an output file's committed length plus what this transaction appended to it."""
        return self._files.length(relative)

    def event(self, event: str, **body: Any) -> int:
        """Record that something happened; returns its sequence number."""
        self.told = True
        now = instants.to_text(self._clock.now())
        cursor = self.connection.execute(
            "INSERT INTO events (timestamp, event, body) VALUES (?, ?, ?)",
            (now, event, orjson.dumps(body, default=str).decode()),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid


class Store:
    """The state below one ROOT.

    Arguments:
        tree: the files below ROOT.
        clock: tells the time that events are stamped with.
        on_trouble: called with a :class:`BoundaryError` that is worth a log line but stops nothing; from any thread.
        patience_s: after so long it is told that another process keeps everybody waiting.

    Raises:
        BoundaryError: the database cannot be opened, is no database, or was written by a newer version.
    """

    def __init__(
        self,
        tree: Tree,
        clock: Clock,
        on_trouble: Callable[[BoundaryError], None],
        *,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._tree = tree
        self._clock = clock
        self._on_trouble = on_trouble
        self._patience_s = patience_s
        self._path = tree.path(layout.STATE)
        self._lock = threading.RLock()
        with files.wrap("create the folder of", self._path):
            files.make_folder(self._path.parent)
        with files.wrap("open", tree.path(layout.WRITER_LOCK)):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._flock = os.open(tree.path(layout.WRITER_LOCK), flags, 0o644)
        connection: sqlite3.Connection | None = None
        try:
            with self._exclusive(), database_errors(self._path):
                connection = self._connection = _connect(self._path)
                migrate(self._connection, self._path)
                self._identity = self._stands_there()
                outputs = self._outputs()
                outputs.publish()
                outputs.cut_back()
        except BaseException:
            if connection is not None:
                connection.close()
            os.close(self._flock)
            raise

    def close(self) -> None:
        """Close the database; nothing may be running on it."""
        with self._lock:
            self._connection.close()
            os.close(self._flock)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Run one transaction: all of it is committed with the files it wrote, or nothing is.

        Raises:
            BoundaryError: a file or the database refused. Nothing was committed, unless it was the renaming of files
                to their places that failed, which follows the commit: the next transaction makes up for it.
        """
        with self._exclusive():
            self._require_same()
            with database_errors(self._path):
                outputs = self._outputs()
                outputs.publish()
                transaction = Transaction(self._connection, outputs, self._clock)
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield transaction
                    outputs.sync()
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    outputs.abandon()
                    raise
                outputs.close()
                outputs.publish()
            if transaction.told:
                self._flush_events()

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """Look at one consistent state, without waiting for a writer.

        Raises:
            BoundaryError: the database refused, or another one took its place.
        """
        self._require_same()
        with database_errors(self._path):
            connection = _connect(self._path, for_reading=True)
            try:
                connection.execute("BEGIN")
                yield Reading(connection)
            finally:
                connection.close()

    def flush_events(self) -> None:
        """Copy events to the events file that a killed process did not; done by every transaction as well."""
        with self._exclusive():
            self._require_same()
            self._flush_events()

    def is_replaced(self) -> bool:
        """Tell whether another file stands where this state was opened: its process has to begin anew."""
        with suppress(BoundaryError):
            return self._stands_there() not in (None, self._identity)
        return False

    def _stands_there(self) -> tuple[int, int] | None:
        with files.wrap("look at", self._path):
            try:
                status = os.stat(self._path)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return status.st_dev, status.st_ino

    def _require_same(self) -> None:
        """Refuse where a backup was put back, or ROOT moved: our rows say nothing of the files that stand there now."""
        found = self._stands_there()
        if found != self._identity:
            how = "it was moved away" if found is None else "another file took its place"
            hint = "Start this process again; stop all that use a state before it, or its ROOT, is moved or put back"
            cause = f"{how} since it was opened"
            raise BoundaryError("use the state", str(self._path), cause, hint=hint, retryable=False)

    def _outputs(self) -> Outputs:
        return Outputs(self._connection, self._tree)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock:
            self._wait_for_others()
            try:
                yield
            finally:
                fcntl.flock(self._flock, fcntl.LOCK_UN)

    def _wait_for_others(self) -> None:
        """Take the writer's lock; where another process keeps it for long, wait on, and tell of it once."""
        path = self._tree.path(layout.WRITER_LOCK)
        with files.wrap("lock", path):
            try:
                fcntl.flock(self._flock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                cause = f"another process has held it for {self._patience_s:g} s, and every job here waits for it"
                hint = "Find it with: lsof, and see whether it is stopped (fg, kill -CONT) or hangs; it is safe to kill"
                trouble = BoundaryError("lock", str(path), cause, hint=hint, retryable=True)
                alarm = threading.Timer(self._patience_s, self._on_trouble, (trouble,))
                alarm.daemon = True
                with suppress(RuntimeError):  # no thread is to be had: then nobody is told
                    alarm.start()
                try:
                    fcntl.flock(self._flock, fcntl.LOCK_EX)
                finally:
                    alarm.cancel()

    def _flush_events(self) -> None:
        """Append what the events file lacks. A refusal is reported and made up for by the next flush."""
        try:
            path = self._tree.path(layout.EVENTS)
            with database_errors(self._path), files.wrap("append to", path):
                files.make_folder(path.parent, self._tree.root)
                opened = os.open(path, _EVENTS_FLAGS, 0o644)
                try:
                    end, last, line = _last_event(opened)
                    if last and not self._is_ours(last, line):
                        # Another state's events: they are kept aside, and this state's begin a file of their own.
                        os.rename(path, path.with_name(f"{path.name}.orphan-{os.fstat(opened).st_mtime_ns}"))
                        renamed, opened = opened, os.open(path, _EVENTS_FLAGS, 0o644)
                        os.close(renamed)
                        end = last = 0
                        self._note_flushed(0)
                    self._copy_events(opened, end, last)
                finally:
                    os.close(opened)
        except BoundaryError as error:
            self._on_trouble(error)

    def _is_ours(self, seq: int, line: bytes) -> bool:
        row = self._connection.execute(
            "SELECT seq, timestamp, event, body FROM events WHERE seq = ?", (seq,)
        ).fetchone()
        return row is not None and event_line(*row) == line

    def _copy_events(self, opened: int, end: int, last: int) -> None:
        flushed = self._connection.execute("SELECT value FROM meta WHERE key = 'events_flushed'").fetchone()
        done = max(last, 0 if flushed is None else int(flushed[0]))
        rows = self._connection.execute(
            "SELECT seq, timestamp, event, body FROM events WHERE seq > ? ORDER BY seq", (done,)
        ).fetchall()
        if not rows:
            return
        lines = b"".join(event_line(*row) + b"\n" for row in rows)
        os.ftruncate(opened, end)
        written = 0
        while written < len(lines):
            written += os.pwrite(opened, lines[written:], end + written)
        os.fsync(opened)
        self._note_flushed(rows[-1][0])

    def _note_flushed(self, seq: int) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('events_flushed', ?)", (seq,))


def event_line(seq: int, timestamp: str, event: str, body: str) -> bytes:
    """Return an event as one JSON line, without the line feed."""
    return orjson.dumps({"event": event, "timestamp": timestamp, "seq": seq, **orjson.loads(body)})


def _last_event(opened: int) -> tuple[int, int, bytes]:
    """Return where the events file's last whole line ends, its ``seq`` and it; 0 and nothing where there is none."""
    size = os.fstat(opened).st_size
    block = 1 << 16
    while True:
        start = max(0, size - block)
        tail = os.pread(opened, size - start, start)
        end = tail.rfind(b"\n") + 1
        line = tail[tail.rfind(b"\n", 0, max(end - 1, 0)) + 1 : end].strip() if end else b""
        if start == 0 or (end and len(line) + 1 < end):
            break
        block *= 4
    try:
        last = int(orjson.loads(line)["seq"]) if line else 0
    except (ValueError, KeyError, TypeError, OverflowError):
        last = _MAX_SEQ + 1
    return (start + end, last, line) if 0 <= last <= _MAX_SEQ else (start + end, 0, b"")


def _connect(path: Path, *, for_reading: bool = False) -> sqlite3.Connection:
    with database_errors(path):
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            if not for_reading:
                # Changing it is the one thing that does not wait for others; once changed, it is the file's own.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the database to this version's schema: numbered scripts, each in a transaction of its own."""
    scripts = sorted(
        (int(match[1]), entry.read_text())
        for entry in resources.files(f"{__package__}.schema").iterdir()
        if (match := _MIGRATION.fullmatch(entry.name))
    )
    with database_errors(path):
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > scripts[-1][0]:
            raise BoundaryError(
                "open",
                str(path),
                f"its schema is version {version}, this package knows {scripts[-1][0]}",
                hint="Install the cortex-autolearn that wrote it, or a newer one",
                retryable=False,
            )
        for number, script in scripts:
            if number > version:
                connection.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the file at ``path`` into a :class:`BoundaryError`; our own mistakes pass through."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        hint, retryable = "Look at the disk and at the permissions of its folder", False
        if "full" in text:
            hint = "Free space on this file system; nothing was committed, and the next run continues"
        elif "disk I/O" in text:
            hint = "See that its disk is sound and has space; nothing was committed, and the next run continues"
        elif "locked" in text:
            hint, retryable = "Another process holds it for long: see who has it open", True
        elif "readonly" in text or "unable to open" in text:
            hint = "Check who owns it and its folder, and under which user this runs"
        raise BoundaryError("use the state", str(path), text, hint=hint, retryable=retryable) from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
            raise  # ours: a bug
        raise BoundaryError("use the state", str(path), str(error), hint=DAMAGED, retryable=False) from error
