"""What the medallion asks of the state: sources and how far they are read, tasks and which record of each stands."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

import orjson

from cortex_autolearn.adapters.store.many import insert, rows_for
from cortex_autolearn.model import layout
from cortex_autolearn.model.ledger import BRONZE_ORIGIN, TASK_COLUMNS, Source, Standing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from cortex_autolearn.model.ledger import DayTask, TaskRow

_LONG_S: Final = 86_400  # longer durations are not told apart by second
_SOURCE_COLUMNS: Final = "id, path, identity, mark, position, size, mtime_ns, grown_us"
_INSERT_TASKS: Final = f"INSERT INTO tasks (id, {', '.join(TASK_COLUMNS)}) VALUES {{many}}"
_OF_DAY: Final = (
    "tasks.day = :day AND tasks.id BETWEEN (SELECT first_id FROM days WHERE day = :day) "
    "AND (SELECT last_id FROM days WHERE day = :day)"
)


def any_of_cortex(connection: sqlite3.Connection) -> bool:
    """Tell whether any task comes from silver that Cortex wrote."""
    # Asked for like this, SQLite looks into the small index of such tasks; `LIMIT 1` makes it go through all tasks.
    return connection.execute("SELECT max(id) FROM tasks WHERE origin <> 0").fetchone()[0] is not None


def each_once(connection: sqlite3.Connection) -> str:
    """Return the condition on ``tasks`` that counts a task of two origins once: by the record that ranks higher."""
    if not any_of_cortex(connection):
        return ""
    return (
        "AND NOT EXISTS (SELECT 1 FROM tasks AS o WHERE o.task_id = tasks.task_id AND o.origin <> tasks.origin "
        "AND (o.final, o.rank_us, -o.origin) > (tasks.final, tasks.rank_us, -tasks.origin))"
    )


class Ascending(Sequence[float]):
    """Durations (s) in ascending order, looked up by place: only those of one second are ever sorted.

    A list of all would take four times the memory of the array, and a day may hold any number of tasks.
    """

    def __init__(self, durations: array[float]) -> None:
        self._durations = durations
        self._counts = sorted(Counter(map(_second, durations)).items())

    def __len__(self) -> int:
        return len(self._durations)

    @overload
    def __getitem__(self, place: int) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> list[float]: ...
    def __getitem__(self, place: int | slice) -> float | list[float]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        rest = range(len(self))[place]
        for second, count in self._counts:
            if rest < count:
                return sorted(one for one in self._durations if _second(one) == second)[rest]
            rest -= count
        raise AssertionError("the counts add up to the length")


def _second(duration: float) -> int:
    return int(duration) if duration < _LONG_S else _LONG_S


class RefiningTables:
    """Questions and changes of the medallion; one connection, inside whatever transaction it is in."""

    connection: sqlite3.Connection

    def sources(self, folder: str) -> list[Source]:
        """Return the known sources directly in ``folder``, those that are gone included."""
        rows = self.connection.execute(
            f"SELECT {_SOURCE_COLUMNS} FROM sources WHERE path >= ? AND path < ? ORDER BY path",
            (f"{folder}/", f"{folder}0"),  # "0" follows "/"
        )
        return [Source(*row) for row in rows]

    def source_names(self) -> dict[int, str]:
        """Return the path of every source by its id."""
        return dict(self.connection.execute("SELECT id, path FROM sources"))

    def add_source(self, path: str, identity: str, now_us: int) -> Source:
        """Begin to know a file."""
        row = self.connection.execute(
            "INSERT INTO sources (path, identity, mark, position, size, mtime_ns, grown_us) "
            "VALUES (:path, :identity, x'', 0, 0, 0, :now) "
            "ON CONFLICT (path) DO UPDATE SET identity = :identity, mark = x'', position = 0 RETURNING id",
            {"path": path, "identity": identity, "now": now_us},
        ).fetchone()
        return Source(int(row[0]), path, identity, b"", 0, 0, 0, now_us)

    def save_source(self, source: Source) -> None:
        """Store a source's new name, identity and cursor."""
        self.connection.execute(
            "UPDATE sources SET path = ?, identity = ?, mark = ?, position = ?, size = ?, mtime_ns = ?, grown_us = ?, "
            "gone = 0 WHERE id = ?",
            (*source[1:], source.id),
        )

    def rename_sources(self, renamed: Iterable[Source]) -> None:
        """Give sources their new paths at once, whoever else is known under these: that one is gone."""
        renamed = list(renamed)
        for source in renamed:
            self.connection.execute("UPDATE sources SET path = '?' || id WHERE id = ?", (source.id,))
        for source in renamed:
            self.connection.execute(
                "UPDATE sources SET path = path || '?' || id, gone = 1 WHERE path = ? AND id <> ?",
                (source.path, source.id),
            )
            self.connection.execute("UPDATE sources SET path = ? WHERE id = ?", (source.path, source.id))
        # Lines stand in the order of their sources' names.
        self.connection.execute(
            "UPDATE days SET disordered = 1 WHERE day IN "
            "(SELECT day FROM tasks WHERE source IN (SELECT value FROM json_each(?)))",
            (orjson.dumps([source.id for source in renamed]).decode(),),
        )

    def rewind_sources(self, folder: str) -> None:
        """Let every file of a folder be read from its beginning again."""
        self.connection.execute(
            "UPDATE sources SET position = 0, mark = x'', size = 0, mtime_ns = 0 WHERE path >= ? AND path < ?",
            (f"{folder}/", f"{folder}0"),
        )

    def standing(self, task_ids: Iterable[str], origin: int = BRONZE_ORIGIN) -> dict[str, Standing]:
        """Return the records that stand for these tasks."""
        rows = rows_for(
            self.connection,
            "SELECT id, task_id, final, rank_us, source, source_offset, day, position, length FROM tasks "
            "WHERE origin = ? AND task_id IN ({many})",
            task_ids,
            origin,
        )
        return {row[1]: Standing(*row) for row in rows}

    def add_tasks(self, rows: Sequence[TaskRow], replaced: Sequence[int] = ()) -> tuple[int, int]:
        """Insert the records that stand from now on; those with the row ids ``replaced`` stand no more.

        Returns:
            the first id given and the one after the last. No id is ever given twice.
        """
        if replaced:
            self.connection.executemany("DELETE FROM tasks WHERE id = ?", [(row_id,) for row_id in replaced])
        found = self.connection.execute("SELECT value FROM meta WHERE key = 'next_task'").fetchone()
        first = 1 if found is None else int(found[0])
        insert(self.connection, _INSERT_TASKS, [(row_id, *row) for row_id, row in enumerate(rows, first)])
        self.connection.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES ('next_task', ?)", (first + len(rows),)
        )
        return first, first + len(rows)

    def first_read_days(self, task_ids: Sequence[str], today: int) -> dict[str, int]:
        """Return the day each of these undated tasks was first read, noting today for those never seen."""
        self.connection.executemany(
            "INSERT OR IGNORE INTO first_read (task_id, day) VALUES (?, ?)", [(task_id, today) for task_id in task_ids]
        )
        return dict(
            rows_for(self.connection, "SELECT task_id, day FROM first_read WHERE task_id IN ({many})", task_ids)
        )

    def note_quarantined(self, path: str, position: int, length: int, reason: str, digest: bytes) -> bool:
        """Note a broken stretch, with a digest of its content; False when it was noted before."""
        cursor = self.connection.execute(
            "INSERT OR IGNORE INTO quarantined (path, position, length, reason, digest) VALUES (?, ?, ?, ?, ?)",
            (path, position, length, reason, digest),
        )
        return cursor.rowcount == 1

    def bury(self, dead: Mapping[int, int]) -> None:
        """Note how many bytes of days' silver files were superseded (0 where the line stands elsewhere)."""
        self.connection.executemany(
            "UPDATE days SET stale = stale + 1, dead = dead + ? WHERE day = ?",
            [(size, day) for day, size in dead.items()],
        )

    def touch_other_days(self, task_ids: Iterable[str], origin: int) -> None:
        """Note that days changed in which records of these tasks stand that are not of ``origin``.

        A task counts once, on the day of the record that ranks higher: a new one may take it from another day.
        """
        if origin == BRONZE_ORIGIN and not any_of_cortex(self.connection):
            return
        query = "SELECT DISTINCT day FROM tasks WHERE origin <> ? AND task_id IN ({many})"
        self.bury({day: 0 for (day,) in rows_for(self.connection, query, task_ids, origin)})

    def extend_day(self, day: int, first_id: int, last_id: int) -> None:
        """Note that rows of a day were added, with ids from ``first_id`` to ``last_id``."""
        self.connection.execute(
            "INSERT INTO days (day, first_id, last_id) VALUES (:day, :first, :last) "
            "ON CONFLICT (day) DO UPDATE SET stale = stale + 1, "
            "first_id = min(first_id, :first), last_id = max(last_id, :last)",
            {"day": day, "first": first_id, "last": last_id},
        )

    def order_day(self, day: int, source: str, first_offset: int, last_offset: int) -> None:
        """Note that lines of a source were appended to a day's silver file, and whether that broke their order."""
        self.connection.execute(
            "UPDATE days SET disordered = disordered OR (last_source, last_offset) > (:source, :first), "
            "last_source = :source, last_offset = :last WHERE day = :day",
            {"source": source, "first": first_offset, "last": last_offset, "day": day},
        )

    def days_to_compact(self) -> list[int]:
        """Return the days whose silver file holds dead lines or is out of order."""
        return [row[0] for row in self.connection.execute("SELECT day FROM days WHERE dead OR disordered ORDER BY day")]

    def silver_lines(self, day: int) -> Iterator[tuple[int, int, int]]:
        """Yield row id, position and length of a day's living lines, in the order of their sources."""
        return iter(
            self.connection.execute(
                "SELECT tasks.id, tasks.position, tasks.length FROM tasks JOIN sources ON sources.id = tasks.source "
                f"WHERE {_OF_DAY} AND tasks.origin = 0 AND tasks.length > 0 "
                "ORDER BY sources.path, tasks.source_offset",
                {"day": day},
            )
        )

    def bronze_positions(self, day: int) -> Iterator[tuple[int, str, str, int, int, int]]:
        """Yield row id, task id, source path and offset, position and length of a day's tasks, in their order."""
        return iter(
            self.connection.execute(
                "SELECT tasks.id, tasks.task_id, sources.path, tasks.source_offset, tasks.position, tasks.length "
                f"FROM tasks JOIN sources ON sources.id = tasks.source WHERE {_OF_DAY} AND tasks.origin = 0 "
                "ORDER BY sources.path, tasks.source_offset",
                {"day": day},
            )
        )

    def move_lines(self, moved: Iterable[tuple[int, int, int]]) -> None:
        """Store the new position and length of silver lines: (position, length, row id)."""
        self.connection.executemany("UPDATE tasks SET position = ?, length = ? WHERE id = ?", moved)

    def settle_day(self, day: int) -> None:
        """Note that a day's silver file holds living lines only, in order."""
        self.connection.execute(
            "UPDATE days SET dead = 0, disordered = 0, (last_source, last_offset) = ("
            "SELECT coalesce(max(path), ''), coalesce(max(source_offset), -1) FROM ("
            "SELECT sources.path, tasks.source_offset FROM tasks JOIN sources ON sources.id = tasks.source "
            f"WHERE {_OF_DAY} AND tasks.origin = 0 ORDER BY sources.path DESC, tasks.source_offset DESC LIMIT 1"
            ")) WHERE day = :day",
            {"day": day},
        )

    def gold_of_days(self) -> dict[int, tuple[int, int]]:
        """Return the days that have tasks: how often each changed since its gold was written, and that gold's bytes."""
        rows = self.connection.execute("SELECT day, stale, gold_bytes FROM days ORDER BY day")
        return {day: (stale, gold_bytes) for day, stale, gold_bytes in rows}

    def gold_written(self, days: Mapping[int, tuple[int, int]]) -> None:
        """Note how often days had changed when their gold was written, and its bytes; later changes stay noted."""
        self.connection.executemany(
            "UPDATE days SET stale = stale - ?, gold_bytes = ? WHERE day = ?",
            [(changes, gold_bytes, day) for day, (changes, gold_bytes) in days.items()],
        )

    def day_sums(self, day: int) -> tuple[list[tuple[str | None, str, int, float, int]], Ascending]:
        """Return a day's final tasks summed up, and their known durations (s) in ascending order.

        The sums are by master and status: master, status, count, sum of known durations (s), their number.
        """
        rows = self.connection.execute(
            f"SELECT master, status, duration FROM tasks WHERE {_OF_DAY} AND final {each_once(self.connection)}",
            {"day": day},
        )
        sums: dict[tuple[str | None, str], list[float]] = {}
        durations: array[float] = array("d")
        for master, status, duration in rows:
            found = sums.get((master, status))
            if found is None:
                found = sums[master, status] = [0, 0.0, 0]
            found[0] += 1
            if duration is not None:
                found[1] += duration
                found[2] += 1
                durations.append(duration)
        totals = [(*who, int(count), seconds, int(timed)) for who, (count, seconds, timed) in sums.items()]
        return totals, Ascending(durations)

    def day_tasks(self, day: int) -> Iterator[DayTask]:
        """Yield a day's final tasks by master, those without one first, then by completion and task id."""
        rows = self.connection.execute(
            "SELECT master, task_id, status, duration, created_us, completed_us FROM tasks "
            f"WHERE {_OF_DAY} AND final {each_once(self.connection)} ORDER BY master, completed_us, task_id",
            {"day": day},
        )
        return iter(rows)

    def range_totals(self, start: int, end: int) -> list[tuple[int, int, int, int, float, int]]:
        """Return per day: day, total, completed, failed, sum of known durations (s), their number."""
        return self.connection.execute(
            "SELECT day, count(*), sum(status = 'completed'), sum(status = 'failed'), "
            "coalesce(sum(duration), 0.0), count(duration) FROM tasks "
            "WHERE day BETWEEN :start AND :end "
            "AND id >= (SELECT min(first_id) FROM days WHERE day BETWEEN :start AND :end) "
            "AND id <= (SELECT max(last_id) FROM days WHERE day BETWEEN :start AND :end) "
            f"AND final {each_once(self.connection)} GROUP BY day ORDER BY day",
            {"start": start, "end": end},
        ).fetchall()

    def bronze_records(self) -> Iterator[tuple[int, str, str, int]]:
        """Yield row id, task id, source path and offset of all tasks that came from bronze, by source."""
        return iter(
            self.connection.execute(
                "SELECT tasks.id, tasks.task_id, sources.path, tasks.source_offset FROM tasks "
                "JOIN sources ON sources.id = tasks.source WHERE tasks.origin = 0 "
                "ORDER BY sources.path, tasks.source_offset"
            )
        )

    def drop_refined(self, kept: AbstractSet[int]) -> None:
        """Forget every task that came from bronze but for the rows ``kept``, and what was quarantined of it."""
        self.connection.execute(
            "DELETE FROM tasks WHERE origin = 0 AND id NOT IN (SELECT value FROM json_each(?))",
            (orjson.dumps(list(kept)).decode(),),
        )
        self.connection.execute(
            "DELETE FROM quarantined WHERE path >= ? AND path < ?", (f"{layout.BRONZE}/", f"{layout.BRONZE}0")
        )
        self.connection.execute(
            "UPDATE days SET dead = 0, disordered = 0, stale = 1, last_source = '', last_offset = -1"
        )

    def outputs(self, folder: str) -> dict[str, int]:
        """Return the committed output files of a folder and their lengths in bytes."""
        rows = self.connection.execute(
            "SELECT path, length FROM outputs WHERE path >= ? AND path < ? ORDER BY path", (f"{folder}/", f"{folder}0")
        )
        return dict(rows.fetchall())

    def release_silver(self, day: int, path: str) -> bool:
        """Let a day's silver file go, its tasks staying without a line; False while one of them waits for the gate."""
        waits = (
            "SELECT 1 FROM tasks WHERE day = ? AND origin = 0 AND final "
            "AND id > coalesce((SELECT value FROM meta WHERE key = 'gated'), 0) LIMIT 1"
        )
        if self.connection.execute(waits, (day,)).fetchone() is not None:
            return False
        self.connection.execute(
            f"UPDATE tasks SET position = 0, length = 0 WHERE {_OF_DAY} AND origin = 0", {"day": day}
        )
        self.connection.execute("DELETE FROM outputs WHERE path = ?", (path,))
        self.settle_day(day)
        return True
