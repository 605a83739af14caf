"""What scoring asks of the state: what to have judged, the queue, batches under way, and money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from cortex_autolearn.adapters.store.many import rows_for
from cortex_autolearn.adapters.store.refining import each_once
from cortex_autolearn.model.judging import (
    OTHER_REASONS,
    Candidate,
    OpenBatch,
    QueueCounts,
    Sending,
    Sent,
    Spent,
    Waiting,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping

_CANDIDATE: Final = (
    "SELECT tasks.id, tasks.task_id, status, output_chars, errored, retries, "
    "coalesce((SELECT score FROM labels WHERE labels.task_id = tasks.task_id), quality), duration, master, "
    "source, source_offset, created_us FROM tasks"
)
_SENT: Final = "id, task_id, attempts, again, batch, rubric, source, source_offset, digest, reserve, sent_day"
_RELEASE: Final = "batch = NULL, reserve = 0, again = 0"
_SPENT: Final = "requests, lost, input_tokens, cache_write_tokens, cache_read_tokens, output_tokens, cost"
_CURSOR: Final = "judge_chosen"
_REASONS: Final = 20


class JudgingTables:
    """Questions and changes of scoring; one connection, inside whatever transaction it is in."""

    connection: sqlite3.Connection

    # --- choosing -----------------------------------------------------------------------------------------------------

    def chosen(self) -> tuple[int, str]:
        """Return the cursor of the choice of what to judge, and by which rules it came there."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (_CURSOR,)).fetchone()
        return (0, "") if row is None else tuple(orjson.loads(row[0]))

    def set_chosen(self, row_id: int, rules: str) -> None:
        """Move that cursor."""
        self.connection.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_CURSOR, orjson.dumps([row_id, rules]).decode())
        )

    def candidates(self, after: int, until: int, limit: int, masters: Collection[str]) -> list[Candidate]:
        """Return completed tasks, with row ids above ``after`` and at most ``until``, that lack a score of their own.

        Those of ``masters`` are returned though they have one.
        """
        lacks = "quality IS NULL"
        if masters:
            lacks = f"(quality IS NULL OR master IN ({', '.join('?' * len(masters))}))"
        rows = self.connection.execute(
            f"{_CANDIDATE} WHERE tasks.id > ? AND tasks.id <= ? AND final AND status = 'completed' AND {lacks} "
            f"{each_once(self.connection)} ORDER BY tasks.id LIMIT ?",
            (after, until, *masters, limit),
        )
        return list(map(Candidate._make, rows))

    def has_unchosen(self) -> bool:
        """Tell whether completed tasks without a score have come since the choice was last made."""
        after, _ = self.chosen()
        query = "SELECT 1 FROM tasks WHERE id > ? AND final AND status = 'completed' AND quality IS NULL LIMIT 1"
        return self.connection.execute(query, (after,)).fetchone() is not None

    def standing_candidates(self, task_ids: Iterable[str]) -> dict[str, Candidate]:
        """Return the final records that stand for these tasks; one without such a record is left out."""
        query = f"{_CANDIDATE} WHERE final AND tasks.task_id IN ({{many}}) {each_once(self.connection)}"
        return {row[1]: Candidate._make(row) for row in rows_for(self.connection, query, task_ids)}

    # --- the queue ----------------------------------------------------------------------------------------------------

    def enqueue(self, records: Iterable[tuple[str, int, int]], *, forced: bool = False) -> int:
        """Have tasks judged, by the records that stand: task id, source, offset there.

        One of which another record is on its way is judged again after that; one of which another record was set aside
        is tried anew.

        Returns:
            how many are new in the queue, or come back to it.
        """
        before = self.connection.total_changes
        self.connection.executemany(
            "INSERT INTO judge_queue (task_id, source, source_offset, forced) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (task_id) DO UPDATE SET "
            "again = (state = 'sent'), forced = max(forced, excluded.forced), "
            "attempts = iif(state = 'set_aside', 0, attempts), reason = iif(state = 'set_aside', '', reason), "
            "state = iif(state = 'set_aside', 'waiting', state) "
            "WHERE forced < excluded.forced OR (state <> 'waiting' "
            "AND (source <> excluded.source OR source_offset <> excluded.source_offset))",
            [(*record, int(forced)) for record in records],
        )
        return self.connection.total_changes - before

    def to_rescore(self, model: str, rubric_of: dict[str | None, str], after: str, limit: int) -> list[str]:
        """Return tasks, in the order of their ids, whose score was made by another model or rubric.

        ``rubric_of`` names the version of each master's own rubric, and under None the one of all others.
        """
        own = {master: version for master, version in rubric_of.items() if master is not None}
        rows = self.connection.execute(
            "SELECT s.task_id FROM scores AS s WHERE s.task_id > :after AND (s.model <> :model OR s.rubric <> coalesce("
            "(SELECT value FROM json_each(:own) WHERE key = "
            "(SELECT master FROM tasks WHERE tasks.task_id = s.task_id ORDER BY final DESC, rank_us DESC LIMIT 1)"
            "), :rubric)) ORDER BY s.task_id LIMIT :limit",
            {
                "after": after,
                "model": model,
                "own": orjson.dumps(own).decode(),
                "rubric": rubric_of[None],
                "limit": limit,
            },
        )
        return [row[0] for row in rows]

    def to_calibrate(self, limit: int) -> list[tuple[str, int, int]]:
        """Return the records of completed tasks, the newest first, that others have scored and the judge has not."""
        return self.connection.execute(
            "SELECT task_id, source, source_offset FROM tasks WHERE final AND status = 'completed' "
            "AND (quality IS NOT NULL OR EXISTS (SELECT 1 FROM labels AS l WHERE l.task_id = tasks.task_id)) "
            "AND NOT EXISTS (SELECT 1 FROM scores AS s WHERE s.task_id = tasks.task_id) "
            "AND NOT EXISTS (SELECT 1 FROM judge_queue AS q WHERE q.task_id = tasks.task_id) "
            f"{each_once(self.connection)} ORDER BY id DESC LIMIT ?",
            (limit,),
        ).fetchall()

    def waiting_items(self, after: int, limit: int) -> list[Waiting]:
        """Return tasks that wait to be judged, those first that came first."""
        rows = self.connection.execute(
            "SELECT id, task_id, attempts, forced FROM judge_queue WHERE state = 'waiting' AND id > ? "
            "ORDER BY id LIMIT ?",
            (after, limit),
        )
        return list(map(Waiting._make, rows))

    def count_waiting(self, after: int = 0) -> int:
        """Return how many tasks wait to be judged, of those that came after a number."""
        query = "SELECT count(*) FROM judge_queue WHERE state = 'waiting' AND id > ?"
        return int(self.connection.execute(query, (after,)).fetchone()[0])

    def count_sent(self) -> int:
        """Return how many tasks are on their way."""
        return int(self.connection.execute("SELECT count(*) FROM judge_queue WHERE state = 'sent'").fetchone()[0])

    def queued(self, task_ids: Iterable[str]) -> set[str]:
        """Return which of these tasks are in the queue, in whichever state."""
        query = "SELECT task_id FROM judge_queue WHERE task_id IN ({many})"
        return {row[0] for row in rows_for(self.connection, query, task_ids)}

    def unqueue(self, item_ids: Iterable[int]) -> None:
        """Take tasks out of the queue."""
        self.connection.executemany("DELETE FROM judge_queue WHERE id = ?", [(item_id,) for item_id in item_ids])

    def send(self, items: Iterable[Sending]) -> None:
        """Note that tasks are about to be sent; each such note is an attempt."""
        self.connection.executemany(
            "UPDATE judge_queue SET state = 'sent', attempts = attempts + 1, again = 0, batch = ?, rubric = ?, "
            "source = ?, source_offset = ?, digest = ?, reserve = ?, sent_day = ? WHERE id = ?",
            [(*item[1:], item.id) for item in items],
        )

    def sent(self, item_ids: Iterable[int]) -> dict[int, Sent]:
        """Return which of these are on their way."""
        query = f"SELECT {_SENT} FROM judge_queue WHERE state = 'sent' AND id IN ({{many}})"
        return {row[0]: Sent._make(row) for row in rows_for(self.connection, query, item_ids)}

    def sent_alone(self, limit: int) -> list[Sent]:
        """Return tasks that were sent in no batch."""
        rows = self.connection.execute(
            f"SELECT {_SENT} FROM judge_queue WHERE state = 'sent' AND batch IS NULL ORDER BY id LIMIT ?", (limit,)
        )
        return list(map(Sent._make, rows))

    def sent_in(self, token: str, limit: int) -> list[Sent]:
        """Return tasks that are on their way in a batch."""
        rows = self.connection.execute(
            f"SELECT {_SENT} FROM judge_queue WHERE state = 'sent' AND batch = ? ORDER BY id LIMIT ?", (token, limit)
        )
        return list(map(Sent._make, rows))

    def settle_item(self, item: Sent) -> None:
        """Take a judged task out of the queue, unless another record of it came to stand meanwhile."""
        self.connection.execute("DELETE FROM judge_queue WHERE id = ? AND NOT again", (item.id,))
        self.connection.execute(
            f"UPDATE judge_queue SET state = 'waiting', attempts = 0, forced = 0, {_RELEASE} WHERE id = ?", (item.id,)
        )

    def retry_item(self, item: Sent, reason: str, *, is_attempt: bool = True) -> None:
        """Let a task wait again; with ``is_attempt`` False this one was none."""
        self.connection.execute(
            f"UPDATE judge_queue SET state = 'waiting', attempts = attempts - ?, reason = ?, {_RELEASE} WHERE id = ?",
            (int(not is_attempt), reason, item.id),
        )

    def set_aside(self, item_id: int, source: int, source_offset: int, reason: str) -> None:
        """Try a task no more, unless another record of it than this one comes to stand, or has come meanwhile."""
        self.connection.execute(
            f"UPDATE judge_queue SET state = iif(again, 'waiting', 'set_aside'), attempts = iif(again, 0, attempts), "
            f"source = ?, source_offset = ?, reason = ?, forced = 0, {_RELEASE} WHERE id = ?",
            (source, source_offset, reason, item_id),
        )

    def set_aside_items(self) -> list[Waiting]:
        """Return what was set aside, but for what a person has scored since, those first that came first."""
        rows = self.connection.execute(
            "SELECT id, task_id, attempts, forced FROM judge_queue WHERE state = 'set_aside' "
            "AND task_id NOT IN (SELECT task_id FROM labels) ORDER BY id"
        )
        return list(map(Waiting._make, rows))

    def wait_again(self, item_ids: Iterable[int]) -> None:
        """Let what was set aside wait as if it had never been tried."""
        self.connection.executemany(
            "UPDATE judge_queue SET state = 'waiting', attempts = 0, reason = '' WHERE id = ? AND state = 'set_aside'",
            [(item_id,) for item_id in item_ids],
        )

    def release_batch(self, token: str) -> int:
        """Let all tasks of a batch that was never taken wait again; that was no attempt of theirs."""
        cursor = self.connection.execute(
            f"UPDATE judge_queue SET state = 'waiting', attempts = attempts - 1, {_RELEASE} "
            "WHERE state = 'sent' AND batch = ?",
            (token,),
        )
        return cursor.rowcount

    def queue_counts(self) -> QueueCounts:
        """Return what is in the queue, and why most of what was set aside was; what a person has scored is settled."""
        states = dict(self.connection.execute("SELECT state, count(*) FROM judge_queue GROUP BY state").fetchall())
        aside = "FROM judge_queue WHERE state = 'set_aside' AND task_id NOT IN (SELECT task_id FROM labels)"
        rows = self.connection.execute(
            f"SELECT reason, count(*), min(task_id) {aside} GROUP BY reason ORDER BY 2 DESC, 1 LIMIT ?", (_REASONS,)
        ).fetchall()
        reasons = {reason: count for reason, count, _ in rows}
        if rest := self.connection.execute(f"SELECT count(*) {aside}").fetchone()[0] - sum(reasons.values()):
            reasons[OTHER_REASONS] = rest
        examples = tuple(task_id for _, _, task_id in rows)
        return QueueCounts(states.get("waiting", 0), states.get("sent", 0), len(self.open_batches()), reasons, examples)

    # --- batches ------------------------------------------------------------------------------------------------------

    def open_batches(self) -> list[OpenBatch]:
        """Return the batches whose results are not all stored, the oldest first."""
        rows = self.connection.execute(
            "SELECT token, batch_id, model, asked, intended_us FROM judge_batches "
            "WHERE state IN ('intended', 'running') ORDER BY intended_us, token"
        )
        return list(map(OpenBatch._make, rows))

    def knows_batch(self, batch_id: str) -> bool:
        """Tell whether a batch was noted, as ours or as another program's."""
        row = self.connection.execute("SELECT 1 FROM judge_batches WHERE batch_id = ?", (batch_id,)).fetchone()
        return row is not None

    def intend_batch(self, token: str, model: str, asked: int, now_us: int) -> None:
        """Note a batch that is about to be sent."""
        self.connection.execute(
            "INSERT INTO judge_batches VALUES (?, NULL, ?, ?, ?, 'intended')", (token, model, asked, now_us)
        )

    def begin_batch(self, token: str, batch_id: str) -> None:
        """Note under which id a batch runs."""
        self.connection.execute(
            "UPDATE judge_batches SET batch_id = ?, state = 'running' WHERE token = ?", (batch_id, token)
        )

    def disown_batch(self, batch: OpenBatch) -> None:
        """Note that a batch was another program's: ours is still to be looked for."""
        self.connection.execute(
            "UPDATE judge_batches SET batch_id = NULL, state = 'intended' WHERE token = ?", (batch.token,)
        )
        self.connection.execute(
            "INSERT INTO judge_batches VALUES (:id, :id, :model, :asked, :us, 'foreign')",
            {"id": batch.batch_id, "model": batch.model, "asked": batch.asked, "us": batch.intended_us},
        )

    def end_batch(self, token: str, state: str) -> None:
        """Note that nothing more is to be had of a batch; ``state`` is ``ended`` or ``lost``."""
        self.connection.execute("UPDATE judge_batches SET state = ? WHERE token = ?", (state, token))

    # --- money --------------------------------------------------------------------------------------------------------

    def spend(self, day: int, model: str, spent: Spent) -> None:
        """Add to what was spent on requests of a day."""
        sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in _SPENT.split(", "))
        self.connection.execute(
            f"INSERT INTO judge_spend (day, model, {_SPENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT (day, model) DO UPDATE SET {sums}",
            (day, model, *spent),
        )

    def spent(self, first_day: int, last_day: int) -> tuple[int, int]:
        """Return what requests of these days cost, and what those of them that are on their way may cost yet."""
        row = self.connection.execute(
            "SELECT (SELECT coalesce(sum(cost), 0) FROM judge_spend WHERE day BETWEEN :first AND :last), "
            "(SELECT coalesce(sum(reserve), 0) FROM judge_queue "
            "WHERE state = 'sent' AND sent_day BETWEEN :first AND :last)",
            {"first": first_day, "last": last_day},
        ).fetchone()
        return int(row[0]), int(row[1])

    def spend_total(self) -> Spent:
        """Return all that was ever spent."""
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in _SPENT.split(", "))
        return Spent._make(self.connection.execute(f"SELECT {sums} FROM judge_spend").fetchone())

    def reach_budget(self, period: str, limit: int, now_us: int) -> bool:
        """Note that a period's budget was reached; False when that was noted before, of this limit or a higher one."""
        if self.budgets_reached({period: limit}):
            return False
        self.connection.execute("INSERT OR IGNORE INTO judge_budgets VALUES (?, ?)", (period, now_us))
        of_month = {name: of for name, of in self.judge_note("reached").items() if name[:7] == period[:7]}
        self.set_judge_note("reached", of_month | {period: limit})
        return True

    def budgets_reached(self, limits: Mapping[str, int]) -> list[str]:
        """Return which of these periods' budgets were reached: one that was raised since is not."""
        query = "SELECT period FROM judge_budgets WHERE period IN ({many}) ORDER BY period"
        noted = self.judge_note("reached")
        reached = [period for (period,) in rows_for(self.connection, query, limits)]
        return [period for period in reached if int(str(noted.get(period, limits[period]))) >= limits[period]]

    # --- what the judge's provider said -------------------------------------------------------------------------------

    def was_busy_until(self, after_us: int, now_us: int) -> bool:
        """Tell whether the time for which the provider was left alone has ended, after an instant and by now."""
        return after_us < int(str(self.judge_note("busy").get("until_us", 0))) <= now_us

    def judge_note(self, name: str) -> dict[str, object]:
        """Return what was noted under a name; nothing where nothing was."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (f"judge_{name}",)).fetchone()
        return {} if row is None else dict(orjson.loads(row[0]))

    def set_judge_note(self, name: str, note: dict[str, object]) -> None:
        """Note something, in place of what was noted under that name."""
        self.connection.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (f"judge_{name}", orjson.dumps(note).decode())
        )
