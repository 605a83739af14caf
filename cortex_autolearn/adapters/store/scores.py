"""Scores that are not the tasks' own: the judge's and people's, and which tasks the collector meets anew for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cortex_autolearn.adapters.store.many import rows_for
from cortex_autolearn.adapters.store.refining import each_once
from cortex_autolearn.model.judging import Judged, Label, Pair, Score

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

_JUDGED: Final = "task_id, overall, model, rubric, source, source_offset, digest"


def any_scores(connection: sqlite3.Connection) -> bool:
    """Tell whether anybody but the tasks themselves has scored anything."""
    query = "SELECT EXISTS (SELECT 1 FROM labels) OR EXISTS (SELECT 1 FROM scores)"
    return bool(connection.execute(query).fetchone()[0])


class ScoreTables:
    """Questions and changes of scores; one connection, inside whatever transaction it is in."""

    connection: sqlite3.Connection

    def has_scores(self) -> bool:
        """Tell whether anybody but the tasks themselves has scored anything."""
        return any_scores(self.connection)

    def labels_of(self, task_ids: Iterable[str]) -> dict[str, float]:
        """Return which of these tasks people have scored, and how."""
        query = "SELECT task_id, score FROM labels WHERE task_id IN ({many})"
        return dict(rows_for(self.connection, query, task_ids))

    def judged(self, task_ids: Iterable[str]) -> dict[str, Judged]:
        """Return which of these tasks the judge has scored."""
        query = f"SELECT {_JUDGED} FROM scores WHERE task_id IN ({{many}})"
        return {row[0]: Judged._make(row) for row in rows_for(self.connection, query, task_ids)}

    def move_score(self, task_id: str, source: int, source_offset: int) -> None:
        """Let a score count for another record, which holds what was judged."""
        self.connection.execute(
            "UPDATE scores SET source = ?, source_offset = ? WHERE task_id = ?", (source, source_offset, task_id)
        )

    def put_score(self, score: Score) -> None:
        """Store the judge's score of a task, in place of an earlier one, and wake the collector for it."""
        self.connection.execute(f"INSERT OR REPLACE INTO scores VALUES ({', '.join('?' * len(score))})", tuple(score))
        self.wake_gate(score.task_id)

    def put_label(self, label: Label) -> None:
        """Store a person's score of a task, in place of an earlier one, and wake the collector for it."""
        self.connection.execute("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?, ?)", tuple(label))
        self.connection.execute("DELETE FROM judge_queue WHERE task_id = ? AND state = 'set_aside'", (label.task_id,))
        self.wake_gate(label.task_id)

    def knows_task(self, task_id: str) -> bool:
        """Tell whether a record of this task was seen."""
        return self.connection.execute("SELECT 1 FROM tasks WHERE task_id = ?", (task_id,)).fetchone() is not None

    def score_totals(self) -> tuple[int, int]:
        """Return how many tasks the judge has scored, and people."""
        row = self.connection.execute("SELECT (SELECT count(*) FROM scores), (SELECT count(*) FROM labels)").fetchone()
        return int(row[0]), int(row[1])

    def pairs(self, kind: str) -> Iterator[Pair]:
        """Yield what the judge and another one think of the same task; ``kind`` is ``person`` or ``task``."""
        other = "JOIN labels AS l ON l.task_id = s.task_id " if kind == "person" else ""
        value = "l.score" if kind == "person" else "tasks.quality"
        rows = self.connection.execute(
            f"SELECT tasks.master, s.overall, {value} FROM scores AS s {other}"
            "JOIN tasks ON tasks.task_id = s.task_id AND tasks.source = s.source "
            f"AND tasks.source_offset = s.source_offset WHERE {value} IS NOT NULL {each_once(self.connection)} "
            "ORDER BY tasks.master, s.task_id"
        )
        return map(Pair._make, rows)

    # --- what the collector meets once more ---------------------------------------------------------------------------

    def wake_gate(self, task_id: str) -> None:
        """Have the collector's rule meet a task once more."""
        self.connection.execute("INSERT OR IGNORE INTO regate (task_id) VALUES (?)", (task_id,))

    def to_regate(self, limit: int) -> list[str]:
        """Return tasks that the collector's rule is to meet once more."""
        return [row[0] for row in self.connection.execute("SELECT task_id FROM regate LIMIT ?", (limit,))]

    def regated(self, task_ids: Iterable[str]) -> None:
        """Note that the rule has met them."""
        self.connection.executemany("DELETE FROM regate WHERE task_id = ?", [(task_id,) for task_id in task_ids])
