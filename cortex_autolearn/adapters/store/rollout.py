"""What rollout asks of the state: what serves which master, the tests, their tasks, and why what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cortex_autolearn.adapters.store.collecting import EFFECTIVE
from cortex_autolearn.adapters.store.many import rows_for
from cortex_autolearn.adapters.store.refining import each_once
from cortex_autolearn.model.experiments import (
    AliasChange,
    Decided,
    EndpointRow,
    Experiment,
    Held,
    LateRow,
    PastTask,
    Queued,
    SeenTask,
    TrialRow,
)
from cortex_autolearn.model.records import COMPLETED, FAILED
from cortex_autolearn.model.training_jobs import Endpoint

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

_EXPERIMENT: Final = Experiment.__struct_fields__
_JSON: Final = frozenset({"baseline", "policy", "notes", "pauses", "alarms", "metrics", "refused", "results"})
_TRIAL: Final = ", ".join(TrialRow._fields)
_FLAGS: Final = ("treated", "closed", "unrouted", "void")
_ALIAS: Final = ", ".join(AliasChange._fields)
_LATE: Final = ", ".join(LateRow._fields)
_SEEN: Final = (
    f"SELECT tasks.id, tasks.task_id, origin, final, status, {EFFECTIVE}, quality, duration, created_us, completed_us, "
    "day, tasks.position, length, sources.path FROM tasks JOIN sources ON sources.id = tasks.source"
)
_OF_ITS_TEST: Final = (
    "(SELECT {what} FROM {told} AS r JOIN experiments AS e ON e.test_id = r.test_id WHERE r.task_id = tasks.task_id "
    "ORDER BY r.at_us IS NULL, e.started_us DESC LIMIT 1)"
)
"""Something of a task as its test tells it, the latest in which it has an outcome; NULL for one that was in none."""
_IS_ITS: Final = "CASE WHEN r.treated = (e.treated = 'a') THEN e.a ELSE e.b END = :champion"
"""Whether a task of a test was the champion's."""


class RolloutTables:
    """Questions and changes of rollout; one connection, inside whatever transaction it is in."""

    connection: sqlite3.Connection

    # --- what serves --------------------------------------------------------------------------------------------------

    def servings(self) -> list[Held]:
        """Return what serves every master that rollout knows, by name."""
        return list(map(Held._make, self.connection.execute("SELECT * FROM servings ORDER BY master")))

    def serving(self, master: str) -> Held | None:
        """Return what serves a master."""
        row = self.connection.execute("SELECT * FROM servings WHERE master = ?", (master,)).fetchone()
        return None if row is None else Held._make(row)

    def put_serving(self, held: Held) -> None:
        """Store what serves a master."""
        self.connection.execute(f"INSERT OR REPLACE INTO servings VALUES ({_marks(Held._fields)})", held)

    def masters_under_test(self) -> dict[str, int]:
        """Return the masters of which a test or a watch runs, or is paused, and since when."""
        rows = self.connection.execute("SELECT master, started_us FROM experiments WHERE ended_us IS NULL")
        return dict(rows.fetchall())

    def alias_history(self, master: str) -> list[AliasChange]:
        """Return the changes of a master's aliases, the oldest first."""
        rows = self.connection.execute(
            f"SELECT {_ALIAS} FROM alias_history WHERE master = ? ORDER BY seq",
            (master,),
        )
        return list(map(AliasChange._make, rows))

    def add_alias(self, change: AliasChange) -> None:
        """Note a change of an alias."""
        self.connection.execute(
            f"INSERT INTO alias_history ({_ALIAS}) VALUES ({_marks(AliasChange._fields)})",
            change,
        )

    # --- tests --------------------------------------------------------------------------------------------------------

    def experiments(self, *, only_active: bool = False, ended_since_us: int | None = None) -> list[Experiment]:
        """Return tests and watches, the oldest first: all, those that run, or those that ended since an instant."""
        where = "ended_us IS NULL" if only_active else ":since IS NULL OR ended_us >= :since"
        rows = self.connection.execute(
            f"SELECT {', '.join(_EXPERIMENT)} FROM experiments WHERE {where} ORDER BY started_us, test_id",
            {"since": ended_since_us},
        )
        return list(map(_experiment, rows))

    def experiment(self, test_id: str) -> Experiment | None:
        """Return a test or watch."""
        row = self.connection.execute(
            f"SELECT {', '.join(_EXPERIMENT)} FROM experiments WHERE test_id = ?", (test_id,)
        ).fetchone()
        return None if row is None else _experiment(row)

    def put_experiment(self, experiment: Experiment) -> None:
        """Add a test, or store how it stands now."""
        changes = ", ".join(f"{name} = excluded.{name}" for name in _EXPERIMENT[1:])
        # Not INSERT OR REPLACE: that would put another active test of the master out of the way.
        self.connection.execute(
            f"INSERT INTO experiments ({', '.join(_EXPERIMENT)}) VALUES ({_marks(_EXPERIMENT)}) "
            f"ON CONFLICT (test_id) DO UPDATE SET {changes}",
            [_column(experiment, name) for name in _EXPERIMENT],
        )

    def trials(self, test_id: str) -> Iterator[TrialRow]:
        """Yield the tasks of a test."""
        rows = self.connection.execute(f"SELECT {_TRIAL} FROM trials WHERE test_id = ? ORDER BY task_id", (test_id,))
        return map(_trial, rows)

    def trials_of(self, test_id: str, task_ids: Iterable[str]) -> dict[str, TrialRow]:
        """Return which of these tasks belong to a test."""
        query = f"SELECT {_TRIAL} FROM trials WHERE test_id = ? AND task_id IN ({{many}})"
        return {row[0]: _trial(row) for row in rows_for(self.connection, query, task_ids, test_id)}

    def put_trials(self, test_id: str, rows: Iterable[TrialRow]) -> None:
        """Add tasks to a test, or store how they stand now."""
        self.connection.executemany(
            f"INSERT OR REPLACE INTO trials (test_id, {_TRIAL}) VALUES (?, {_marks(TrialRow._fields)})",
            ((test_id, *row) for row in rows),
        )

    def costs(self, test_id: str) -> dict[bool, float]:
        """Return the mean cost of a task of each variant, where one is known: of the model on trial, of the other."""
        rows = self.connection.execute(
            "SELECT treated, avg(cost_usd) FROM trials WHERE test_id = ? AND cost_usd IS NOT NULL GROUP BY treated",
            (test_id,),
        )
        return {bool(treated): cost for treated, cost in rows}

    def rescored(self, test_id: str) -> list[tuple[str, float | None]]:
        """Return the tasks of a test whose score is another one now, and it: a judge's or a person's came since."""
        return self.connection.execute(
            "SELECT r.task_id, coalesce(l.score, r.own_quality, s.overall) AS effective FROM trials AS r "
            "LEFT JOIN labels AS l ON l.task_id = r.task_id LEFT JOIN scores AS s ON s.task_id = r.task_id "
            "AND EXISTS (SELECT 1 FROM tasks AS t WHERE t.task_id = s.task_id AND t.source = s.source "
            "AND t.source_offset = s.source_offset) "
            "WHERE r.test_id = ? AND r.at_us IS NOT NULL AND effective IS NOT r.quality ORDER BY r.task_id",
            (test_id,),
        ).fetchall()

    def scores_beside(self, task_ids: Iterable[str]) -> dict[str, tuple[float | None, float | None]]:
        """Return what people and the judge say of these tasks, where either does: the judge of the record as it is."""
        asked = list(task_ids)
        labels = "SELECT task_id, score FROM labels WHERE task_id IN ({many})"
        judged = (
            "SELECT s.task_id, s.overall FROM scores AS s JOIN tasks AS t ON t.task_id = s.task_id "
            "AND t.source = s.source AND t.source_offset = s.source_offset WHERE s.task_id IN ({many})"
        )
        by_people, by_judge = (dict(rows_for(self.connection, query, asked)) for query in (labels, judged))
        return {one: (by_people.get(one), by_judge.get(one)) for one in by_people.keys() | by_judge.keys()}

    def put_late(self, test_id: str, rows: Iterable[LateRow]) -> None:
        """Keep outcomes that came when their test had ended; of one task the one told last stands."""
        self.connection.executemany(
            f"INSERT OR REPLACE INTO late_outcomes (test_id, {_LATE}) VALUES (?, {_marks(LateRow._fields)})",
            ((test_id, *row) for row in rows),
        )

    def late_outcomes(self, test_id: str) -> list[LateRow]:
        """Return the outcomes that came when a test had ended."""
        rows = self.connection.execute(
            f"SELECT {_LATE} FROM late_outcomes WHERE test_id = ? ORDER BY task_id", (test_id,)
        )
        return [LateRow._make(row) for row in rows]

    # --- tasks --------------------------------------------------------------------------------------------------------

    def seen_tasks(self, test: Experiment, until: int, limit: int) -> list[SeenTask]:
        """Return records of a test's master with a row id above its cursor and at most ``until``.

        Those of undated tasks that were there before it began are left out: a rebuild gives them new rows.
        """
        rows = self.connection.execute(
            f"{_SEEN} WHERE tasks.id > :after AND tasks.id <= :until AND master = :master "
            "AND NOT (created_us IS NULL AND completed_us IS NULL AND EXISTS (SELECT 1 FROM undated_before AS u "
            "WHERE u.test_id = :test AND u.task_id = tasks.task_id)) ORDER BY tasks.id LIMIT :limit",
            {"after": test.seen, "until": until, "master": test.master, "test": test.test_id, "limit": limit},
        )
        return [SeenTask._make(row) for row in rows]

    def note_undated(self, test_id: str, master: str) -> None:
        """Note which tasks of a master carry no time, as a test of it begins."""
        self.connection.execute(
            "INSERT OR IGNORE INTO undated_before (test_id, task_id) "
            "SELECT :test, task_id FROM tasks WHERE master = :master AND created_us IS NULL AND completed_us IS NULL",
            {"test": test_id, "master": master},
        )

    def has_seen(self, master: str, after: int) -> bool:
        """Tell whether a master has records with a row id above ``after``."""
        query = "SELECT 1 FROM tasks WHERE id > ? AND master = ? LIMIT 1"
        return self.connection.execute(query, (after, master)).fetchone() is not None

    def past_tasks(
        self, master: str, champion: str, reigns: Sequence[tuple[int, int]], before_us: int, limit: int
    ) -> list[PastTask]:
        """Return a champion's last tasks that began before an instant: those of its reigns, and its own in tests.

        Those have completed that did by their test: what the other model answered in its place was its failure there.
        """
        order = "ORDER BY coalesce(completed_us, created_us) DESC, tasks.task_id"
        # What is told of a task is asked only of those that are returned: there may be a hundred times as many.
        rows = self.connection.execute(
            f"SELECT final, status, {EFFECTIVE}, duration, created_us, completed_us, "
            f"coalesce({_told('trials', 'r.completed')}, {_told('late_outcomes', 'r.completed')}) FROM tasks "
            "WHERE id IN (SELECT id FROM tasks WHERE master = :master "
            "AND coalesce(created_us, completed_us) <= :before "
            f"AND status IS NOT 'cancelled' {each_once(self.connection)} "
            f"AND coalesce({_told('trials', _IS_ITS)}, {_told('late_outcomes', _IS_ITS)}, "
            "EXISTS (SELECT 1 FROM json_each(:reigns) AS reign "
            "WHERE coalesce(created_us, completed_us) >= reign.value ->> 0 "
            f"AND coalesce(created_us, completed_us) < reign.value ->> 1)) {order} LIMIT :limit) {order}",
            {
                "master": master,
                "champion": champion,
                "reigns": _text(reigns),
                "before": before_us,
                "limit": limit,
            },
        )
        return [_past(PastTask._make(row[:-1]), row[-1]) for row in rows]

    def tasks_created(self, master: str, since_us: int, until_us: int) -> tuple[int, int | None]:
        """Return how many of a master's tasks were created between two instants, and when the first of them was.

        One that does not say when was when it completed.
        """
        begun = "coalesce(created_us, completed_us)"
        row = self.connection.execute(
            f"SELECT count(*), min({begun}) FROM tasks WHERE master = ? AND {begun} > ? AND {begun} <= ? "
            + each_once(self.connection),
            (master, since_us, until_us),
        ).fetchone()
        return row[0], row[1]

    # --- models on their way ------------------------------------------------------------------------------------------

    def deploy_queue(self) -> list[Queued]:
        """Return the models that wait for their master to be free, in the order in which they were asked for."""
        rows = self.connection.execute(
            "SELECT master, model_id, asked_us, by, why, actor FROM deploy_queue ORDER BY number"
        )
        return list(map(Queued._make, rows))

    def put_queued(self, queued: Queued) -> bool:
        """Let a model wait for its master; tells whether it did not before."""
        cursor = self.connection.execute(
            "INSERT INTO deploy_queue (master, model_id, asked_us, by, why, actor) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            queued,
        )
        return cursor.rowcount > 0

    def drop_queued(self, master: str, model_id: str) -> None:
        """Let a model wait no longer."""
        self.connection.execute("DELETE FROM deploy_queue WHERE master = ? AND model_id = ?", (master, model_id))

    def models_to_offer(self) -> list[str]:
        """Return the models that were not offered to their masters yet."""
        rows = self.connection.execute(
            "SELECT model_id FROM models WHERE model_id NOT IN (SELECT model_id FROM offered_models) "
            "ORDER BY made_us, model_id"
        )
        return [row[0] for row in rows]

    def offer_model(self, model_id: str, now_us: int) -> None:
        """Note that a model was offered to its masters."""
        self.connection.execute("INSERT OR IGNORE INTO offered_models VALUES (?, ?)", (model_id, now_us))

    def endpoints(self) -> list[EndpointRow]:
        """Return what serves models, or is to."""
        rows = self.connection.execute(
            "SELECT number, model_id, token, seen, asked_us, polled_us FROM endpoints ORDER BY number"
        )
        return [
            EndpointRow(number, model_id, token, seen and msgspec.json.decode(seen, type=Endpoint), asked_us, polled_us)
            for number, model_id, token, seen, asked_us, polled_us in rows
        ]

    def add_endpoint(self, model_id: str, token: str, now_us: int) -> None:
        """Note that a model is to be served; one that is, or is to be, stays as it is."""
        self.connection.execute(
            "INSERT INTO endpoints (model_id, token, asked_us) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (model_id, token, now_us),
        )

    def next_endpoint(self) -> int:
        """Return a number that no endpoint had before."""
        row = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'endpoints'").fetchone()
        return 1 if row is None else int(row[0]) + 1

    def put_endpoint(self, number: int, seen: Endpoint | None, polled_us: int) -> None:
        """Store what a backend told of an endpoint."""
        text = None if seen is None else _text(seen)
        self.connection.execute(
            "UPDATE endpoints SET seen = ?, polled_us = ? WHERE number = ?", (text, polled_us, number)
        )

    def drop_endpoint(self, number: int) -> None:
        """Forget an endpoint that is torn down."""
        self.connection.execute("DELETE FROM endpoints WHERE number = ?", (number,))

    # --- decisions ----------------------------------------------------------------------------------------------------

    def put_decided(self, decided: Decided) -> None:
        """Keep what a decision rested on."""
        self.connection.execute(
            f"INSERT INTO rollout_decisions VALUES ({_marks(Decided._fields)})",
            (*decided[:4], *map(_text, decided[4:])),
        )

    def decided(self, event_seq: int) -> Decided | None:
        """Return what the decision of an event rested on."""
        row = self.connection.execute("SELECT * FROM rollout_decisions WHERE event_seq = ?", (event_seq,)).fetchone()
        return None if row is None else Decided(*row[:4], *map(msgspec.json.decode, row[4:]))


def _told(table: str, what: str) -> str:
    return _OF_ITS_TEST.format(told=table, what=what)


def _past(task: PastTask, completed: int | None) -> PastTask:
    """Return a task of the past as its test counted it, where that has an outcome."""
    return task if completed is None else task._replace(final=True, status=COMPLETED if completed else FAILED)


def _marks(names: Iterable[str]) -> str:
    return ", ".join("?" for _ in names)


def _column(experiment: Experiment, name: str) -> Any:
    value = getattr(experiment, name)
    return _text(value) if name in _JSON else value


def _experiment(row: tuple[Any, ...]) -> Experiment:
    found = {
        name: msgspec.json.decode(value) if name in _JSON else value
        for name, value in zip(_EXPERIMENT, row, strict=True)
    }
    return msgspec.convert(found, Experiment)


def _trial(row: tuple[Any, ...]) -> TrialRow:
    found = TrialRow._make(row)
    flags = (*_FLAGS, "completed", "from_results") if found.at_us is not None else _FLAGS
    return TrialRow(**found._asdict() | {name: bool(getattr(found, name)) for name in flags})


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
