"""What the daemon asks of the state: which runs there were, which slots are done, and what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from cortex_autolearn.model import instants
from cortex_autolearn.model.runs import Run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_COLUMNS: Final = "run_id, job, trigger, slot, started_us, ended_us, result, counts"
_KEPT_RUNS: Final = 1_000
_KEPT_SLOTS: Final = 1_000
_EVER: Final = (1 << 63) - 1
_TOTALS: Final = (
    "SELECT count(*), coalesce(sum(final), 0), coalesce(sum(status = 'completed'), 0), "
    "coalesce(sum(status = 'completed' AND quality IS NOT NULL), 0) FROM tasks"
)
_WAITING: Final = (
    "WITH gated AS (SELECT coalesce((SELECT value FROM meta WHERE key = 'gated'), 0) AS id) "
    "SELECT (SELECT count(*) FROM tasks WHERE final AND id > (SELECT id FROM gated)) + (SELECT count(*) FROM regate "
    "WHERE (SELECT max(id) FROM tasks WHERE task_id = regate.task_id AND final) <= (SELECT id FROM gated))"
)
"""A score may come before its task was decided about, or was seen at all: that makes it no task more."""
OUTRANKED: Final = (
    "SELECT CASE WHEN (c.final, c.rank_us, -c.origin) > (b.final, b.rank_us, -b.origin) THEN b.id ELSE c.id END "
    "FROM tasks AS c JOIN tasks AS b ON b.task_id = c.task_id AND b.origin = 0 WHERE c.origin <> 0"
)
"""Of each task of two origins the record that does not stand: found from the silver that Cortex wrote, mostly little,
where ``refining.each_once`` looks at every task."""


class RunningTables:
    """Questions and changes about runs, slots and events; one connection, inside whatever transaction it is in."""

    connection: sqlite3.Connection

    def begin_run(self, run: Run) -> None:
        """Note that a run began; with a slot, that the slot is being run."""
        self.connection.execute(
            f"INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*run[:-1], orjson.dumps(run.counts).decode()),
        )
        if run.slot is not None:
            self.connection.execute(
                "INSERT INTO slots (job, slot, run_id) VALUES (?, ?, ?) "
                "ON CONFLICT (job, slot) DO UPDATE SET run_id = excluded.run_id, ended_us = NULL",
                (run.job, run.slot, run.run_id),
            )

    def count_run(self, run_id: str, counts: dict[str, Any]) -> None:
        """Store what a run did so far, in the transaction that did it."""
        self.connection.execute("UPDATE runs SET counts = ? WHERE run_id = ?", (orjson.dumps(counts).decode(), run_id))

    def end_run(self, run_id: str, result: str, ended_us: int) -> None:
        """Note how a run ended; its slot is done then, unless it was interrupted: such a slot is run again."""
        self.connection.execute("UPDATE runs SET ended_us = ?, result = ? WHERE run_id = ?", (ended_us, result, run_id))
        found = self.connection.execute("SELECT job, slot FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if found is None:
            return
        job, slot = found
        if slot is not None and result != "interrupted":
            self.connection.execute(
                "UPDATE slots SET ended_us = ? WHERE job = ? AND slot = ? AND run_id = ?", (ended_us, job, slot, run_id)
            )
        # Those ahead are of a clock that was set back: they put none of now out of the way.
        oldest_kept = self.connection.execute(
            "SELECT started_us FROM runs WHERE job = ? AND started_us <= ? ORDER BY started_us DESC LIMIT 1 OFFSET ?",
            (job, ended_us, _KEPT_RUNS),
        ).fetchone()
        if oldest_kept is not None:
            # The last that went well stays, and the first after it, however many have failed since: alerts need both.
            self.connection.execute(
                "WITH good AS (SELECT coalesce(max(started_us), -1) AS us FROM runs "
                "WHERE job = :job AND result = 'ok' AND started_us <= :now), "
                "bad AS (SELECT coalesce(min(started_us), -1) AS us FROM runs "
                "WHERE job = :job AND started_us > (SELECT us FROM good)) "
                "DELETE FROM runs WHERE job = :job AND started_us < :oldest AND ended_us IS NOT NULL "
                "AND started_us NOT IN (SELECT us FROM good UNION ALL SELECT us FROM bad)",
                {"job": job, "oldest": oldest_kept[0], "now": ended_us},
            )
        self.connection.execute(
            "DELETE FROM slots WHERE job = :job AND slot < "
            "(SELECT slot FROM slots WHERE job = :job ORDER BY slot DESC LIMIT 1 OFFSET :kept)",
            {"job": job, "kept": _KEPT_SLOTS},
        )

    def unfinished_runs(self, job: str) -> list[Run]:
        """Return runs of a job that never ended: their process was killed, or is still at it."""
        rows = self.connection.execute(
            f"SELECT {_COLUMNS} FROM runs WHERE job = ? AND ended_us IS NULL ORDER BY started_us", (job,)
        )
        return [_run(row) for row in rows]

    def last_run(self, job: str, until_us: int = _EVER) -> Run | None:
        """Return the newest run of a job that has ended, of those that began until an instant.

        With now, what ran while the clock stood ahead, and was set back since, is none of them.
        """
        row = self.connection.execute(
            f"SELECT {_COLUMNS} FROM runs WHERE job = ? AND started_us <= ? AND ended_us IS NOT NULL "
            "ORDER BY started_us DESC LIMIT 1",
            (job, until_us),
        ).fetchone()
        return None if row is None else _run(row)

    def last_success_us(self, jobs: Sequence[str], until_us: int) -> int | None:
        """Return when the newest run of one of these jobs that went well began, of those until an instant."""
        names = ",".join("?" * len(jobs))
        row = self.connection.execute(
            f"SELECT max(started_us) FROM runs WHERE job IN ({names}) AND started_us <= ? AND result = 'ok'",
            (*jobs, until_us),
        ).fetchone()
        found: int | None = row[0]
        return found

    def failing_since_us(self, jobs: Sequence[str], until_us: int) -> int | None:
        """Return when the first run of one of these jobs began after the last that went well: it failed, or runs.

        Of those until an instant, as in :meth:`last_success_us`.
        """
        names = ",".join("?" * len(jobs))
        row = self.connection.execute(
            f"SELECT min(started_us) FROM runs WHERE job IN ({names}) AND started_us > ? AND started_us <= ?",
            (*jobs, self.last_success_us(jobs, until_us) or 0, until_us),
        ).fetchone()
        found: int | None = row[0]
        return found

    def slot_done(self, job: str, slot: str) -> bool:
        """Tell whether a slot's run has ended."""
        row = self.connection.execute("SELECT ended_us FROM slots WHERE job = ? AND slot = ?", (job, slot)).fetchone()
        return row is not None and row[0] is not None

    def set_back_us(self, from_us: int) -> int | None:
        """Return when the clock was set back from after an instant, as the events tell; None where none came since."""
        row = self.connection.execute(
            "SELECT timestamp FROM events WHERE seq > coalesce((SELECT seq FROM events WHERE timestamp > ? "
            "ORDER BY seq DESC LIMIT 1), 0) ORDER BY seq LIMIT 1",
            (instants.us_to_text(from_us),),
        ).fetchone()
        return None if row is None else instants.to_us(instants.decode(orjson.dumps(row[0])))

    def events_after(self, seq: int, kind: str | None = None, limit: int = 1_000) -> list[tuple[int, str, str, str]]:
        """Return events with a higher sequence number, oldest first: (seq, timestamp, event, body as JSON)."""
        return self.connection.execute(
            "SELECT seq, timestamp, event, body FROM events WHERE seq > :seq AND (:kind IS NULL OR event = :kind) "
            "ORDER BY seq LIMIT :limit",
            {"seq": seq, "kind": kind, "limit": limit},
        ).fetchall()

    def last_events(self, limit: int, kind: str | None = None) -> list[tuple[int, str, str, str]]:
        """Return the newest events, oldest of them first: (seq, timestamp, event, body as JSON)."""
        return self.connection.execute(
            "SELECT * FROM (SELECT seq, timestamp, event, body FROM events WHERE :kind IS NULL OR event = :kind "
            "ORDER BY seq DESC LIMIT :limit) ORDER BY seq",
            {"limit": limit, "kind": kind},
        ).fetchall()

    def last_event_seq(self) -> int:
        """Return the highest sequence number given so far; 0 where nothing happened yet."""
        return int(self.connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def waiting_tasks(self) -> int:
        """Return how many final tasks have not met the collector's rule, or have a new score to meet it with."""
        return int(self.connection.execute(_WAITING).fetchone()[0])

    def task_totals(self) -> tuple[int, int, int, int]:
        """Return how many tasks there are, how many are final, completed, and completed with a quality score."""
        records = self.connection.execute(_TOTALS).fetchone()
        twice = self.connection.execute(f"{_TOTALS} WHERE id IN ({OUTRANKED})").fetchone()
        tasks, final, completed, scored = (int(all_of - less) for all_of, less in zip(records, twice, strict=True))
        return tasks, final, completed, scored

    def unfinal_words(self, shown: int, chars: int) -> tuple[int, list[tuple[str, int]]]:
        """Return how many tasks tell of their end and have a status that is not final, and their commonest words.

        Each word with the number of its tasks, and no more than its first characters; no word is an empty one. Every
        task may have a word of its own, and a long one: no more of them are held than are shown.
        """
        found = f"FROM tasks WHERE NOT final AND completed_us IS NOT NULL AND id NOT IN ({OUTRANKED})"
        (count,) = self.connection.execute(f"SELECT count(*) {found}").fetchone()
        words = self.connection.execute(
            f"SELECT substr(coalesce(status, ''), 1, ?), count(*) {found} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
            (chars, shown),
        )
        return count, words.fetchall()

    def quarantine_counts(self) -> dict[str, int]:
        """Return how many stretches and objects are in quarantine for each reason, the commonest first."""
        rows = self.connection.execute("SELECT reason, count(*) FROM quarantined GROUP BY reason ORDER BY 2 DESC, 1")
        return dict(rows.fetchall())


def _run(row: tuple[Any, ...]) -> Run:
    return Run._make((*row[:-1], orjson.loads(row[-1])))
