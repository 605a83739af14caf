"""What the collector asks of the state: tasks that wait for the rule, and the set of high-quality outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from cortex_autolearn.adapters.store.many import insert, rows_for
from cortex_autolearn.adapters.store.refining import any_of_cortex, each_once
from cortex_autolearn.adapters.store.scores import any_scores
from cortex_autolearn.model.ledger import Collected, Line, Ungated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

_UNGATED: Final = (
    "SELECT id, task_id, origin, length, status, output_chars, errored, retries, quality, duration FROM tasks"
)
_LINES: Final = (
    "SELECT t.id, t.task_id, t.origin, t.day, t.position, t.length, s.path, t.source_offset, s.id FROM tasks AS t "
    "JOIN sources AS s ON s.id = t.source"
)
EFFECTIVE: Final = (
    "coalesce((SELECT score FROM labels AS l WHERE l.task_id = tasks.task_id), quality, "
    "(SELECT overall FROM scores AS j WHERE j.task_id = tasks.task_id "
    "AND j.source = tasks.source AND j.source_offset = tasks.source_offset))"
)
"""The score of a row of ``tasks`` that counts: a person's, else its own, else the judge's of this very record."""
_COLLECTED: Final = "task_id, split, day, position, length, source, source_offset, text_bytes, collected_us"


class CollectingTables:
    """Questions and changes of the collector; one connection, inside whatever transaction it is in."""

    connection: sqlite3.Connection

    def gated(self) -> int:
        """Return the collector's cursor: tasks with a higher row id have not met the rule."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = 'gated'").fetchone()
        return 0 if row is None else int(row[0])

    def set_gated(self, row_id: int) -> None:
        """Move the collector's cursor."""
        self.connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('gated', ?)", (row_id,))

    def last_task(self) -> int:
        """Return the highest row id given to a task so far."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = 'next_task'").fetchone()
        return 0 if row is None else int(row[0]) - 1

    def final_tasks(self, after: int, until: int, limit: int, day: int | None = None) -> list[Ungated]:
        """Return final tasks with a row id above ``after`` and at most ``until``, of all days or of one."""
        of_day = "" if day is None else " AND day = :day"
        rows = self.connection.execute(
            f"{_UNGATED} WHERE id > :after AND id <= :until AND final{of_day} ORDER BY id LIMIT :limit",
            {"after": after, "until": until, "limit": limit, "day": day},
        )
        return list(map(Ungated._make, rows))

    def final_tasks_of(self, task_ids: Iterable[str], until: int) -> list[Ungated]:
        """Return the final records of these tasks with a row id of at most ``until``."""
        query = f"{_UNGATED} WHERE id <= ? AND final AND task_id IN ({{many}})"
        return sorted(map(Ungated._make, rows_for(self.connection, query, task_ids, until)))

    def lines(self, row_ids: Iterable[int]) -> list[Line]:
        """Return where the silver lines of these rows stand, in the order of their days and positions."""
        rows = self.connection.execute(
            f"{_LINES} WHERE t.id IN (SELECT value FROM json_each(?)) ORDER BY t.origin, t.day, t.position",
            (orjson.dumps(list(row_ids)).decode(),),
        )
        return list(map(Line._make, rows))

    def line_of(self, task_id: str) -> Line | None:
        """Return where the silver line of a task stands: of two origins, of the record that ranks higher."""
        row = self.connection.execute(
            f"{_LINES} WHERE t.task_id = ? ORDER BY t.final DESC, t.rank_us DESC, t.origin LIMIT 1", (task_id,)
        ).fetchone()
        return None if row is None else Line(*row)

    def outranked(self, row_ids: Iterable[int]) -> set[int]:
        """Return which of these rows yield to the same task's row of the other origin."""
        if not any_of_cortex(self.connection):
            return set()
        rows = self.connection.execute(
            "SELECT t.id FROM tasks AS t JOIN tasks AS o ON o.task_id = t.task_id AND o.origin <> t.origin "
            "WHERE t.id IN (SELECT value FROM json_each(?)) "
            "AND (o.final, o.rank_us, -o.origin) > (t.final, t.rank_us, -t.origin)",
            (orjson.dumps(list(row_ids)).decode(),),
        )
        return {row[0] for row in rows}

    def any_collected(self) -> bool:
        """Tell whether the set holds anything."""
        return self.connection.execute("SELECT 1 FROM outcomes LIMIT 1").fetchone() is not None

    def collected(self, task_ids: Iterable[str]) -> dict[str, Collected]:
        """Return which of these tasks are in the high-quality set."""
        rows = rows_for(self.connection, f"SELECT {_COLLECTED} FROM outcomes WHERE task_id IN ({{many}})", task_ids)
        return {row[0]: Collected(*row) for row in rows}

    def collected_in(self, split: str, day: int) -> list[Collected]:
        """Return the set's lines of one file, in their order there."""
        rows = self.connection.execute(
            f"SELECT {_COLLECTED} FROM outcomes WHERE split = ? AND day = ? ORDER BY position", (split, day)
        )
        return list(map(Collected._make, rows))

    def put_collected(self, rows: Sequence[Collected]) -> None:
        """Add to the set, or let a later record stand in it; it is in the set since the first one was."""
        insert(
            self.connection,
            f"INSERT INTO outcomes ({_COLLECTED}) VALUES {{many}} "
            "ON CONFLICT (task_id) DO UPDATE SET split = excluded.split, day = excluded.day, "
            "position = excluded.position, length = excluded.length, source = excluded.source, "
            "source_offset = excluded.source_offset, text_bytes = excluded.text_bytes",
            rows,
        )

    def withdraw(self, task_ids: Iterable[str]) -> None:
        """Take tasks out of the set."""
        self.connection.executemany("DELETE FROM outcomes WHERE task_id = ?", [(task_id,) for task_id in task_ids])

    def move_collected(self, moved: Iterable[tuple[int, int, str]]) -> None:
        """Store the new position and length of lines in a rewritten file: (position, length, task id)."""
        self.connection.executemany("UPDATE outcomes SET position = ?, length = ? WHERE task_id = ?", moved)

    def collected_totals(self) -> dict[str, tuple[int, int]]:
        """Return for each split how many outcomes it has and the bytes of their input and output text."""
        rows = self.connection.execute("SELECT split, count(*), sum(text_bytes) FROM outcomes GROUP BY split")
        return {split: (count, text_bytes) for split, count, text_bytes in rows}

    def fact_groups(
        self, min_output_chars: int, min_duration_s: float, max_duration_s: float
    ) -> list[tuple[Ungated, int]]:
        """Return final tasks in groups that the rule cannot tell apart: one of each as an example, and how many.

        The limits only say what may fall into one group; what they mean is the rule's business.
        """
        quality = EFFECTIVE if any_scores(self.connection) else "quality"
        rows = self.connection.execute(
            f"SELECT 0, '', 0, 0, status, min(output_chars, :chars), errored, retries > 0, {quality}, "
            "CASE WHEN duration < :low THEN :low - 1 WHEN duration > :high THEN :high + 1 "
            "WHEN duration IS NULL THEN NULL "
            f"ELSE :low END AS bucket, count(*) FROM tasks WHERE final {each_once(self.connection)} "
            "GROUP BY 5, 6, 7, 8, 9, 10",
            {"chars": min_output_chars, "low": min_duration_s, "high": max_duration_s},
        )
        return [(Ungated(*row[:-1]), row[-1]) for row in rows]
