"""What must hold when all that was written could be read: nothing is lost, nothing invented, nothing shown amiss."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from cortex_autolearn.model import layout

from .looking import document, objects
from .promise import require, split_of

if TYPE_CHECKING:
    from .fleet import Fleet, Task
    from .looking import State
    from .system import System

_MICRO: Final = 1_000_000


class Settled:
    """The checks of a world in which everything was read. ``was_rebuilt``: bronze was read more than once.

    Arguments:
        system: whose disk is looked at.
        fleet: who knows what was written.
    """

    def __init__(self, system: System, fleet: Fleet) -> None:
        self.was_rebuilt = False
        self._system = system
        self._fleet = fleet
        self._root = system.root
        self._seen_lines: dict[str, tuple[int, int, int]] = {}

    def check(self, state: State) -> None:
        """Check all of it."""
        self._silver_is_true(state)
        self._collected_is_true(state)
        self._quarantine_is_true(state)
        self._tests_know_all(state)
        self._runs_add_up(state)
        self._shown_is_true(state)

    def _silver_is_true(self, state: State) -> None:
        """Of every task the record stands that must, in the state and in silver."""
        promise = "silver is true"
        query = "SELECT task_id, id, status, final, duration, quality, day, position, length FROM tasks"
        found = {row[0]: tuple(row) for row in state.rows(query)}
        expected = {task_id: task for task_id, task in self._fleet.tasks.items() if task.records}
        require(promise, found.keys() == expected.keys(), lambda: f"{sorted(found.keys() ^ expected.keys())[:5]}")
        texts: dict[int, tuple[int, bytes]] = {}
        for task_id, task in expected.items():
            _, _, status, final, duration_s, quality, day, position, length = found[task_id]
            stands = task.stands.facts
            is_same = (status, final, quality) == (stands.status, stands.final, stands.quality_score)
            is_same = is_same and duration_s == stands.duration_seconds
            require(promise, is_same, lambda: f"{found[task_id]}, not {stands}")  # noqa: B023 - called at once
            if day not in texts:
                place = self._root / layout.silver_file(day)
                texts[day] = place.stat().st_ino, place.read_bytes()
            inode, text = texts[day]
            if self._seen_lines.get(task_id) == (inode, position, length):
                continue
            line = text[position : position + length]
            is_its = task_id.encode() in line and line.endswith(b"\n") and line.count(b"\n") == 1
            require(promise, is_its, f"{task_id} stands elsewhere: {line[:80]!r}")
            self._seen_lines[task_id] = (inode, position, length)

    def _collected_is_true(self, state: State) -> None:
        """Collected is what passes, no more and no less, in the split that its id decides."""
        promise = "nothing is lost or collected in vain"
        query = (
            "SELECT s.task_id, s.overall FROM scores AS s JOIN tasks AS t ON t.task_id = s.task_id "
            "AND t.source = s.source AND t.source_offset = s.source_offset"
        )
        judged = {row["task_id"]: row["overall"] for row in state.rows(query)}
        expected = {task_id: split_of(task_id) for task_id, task in self._fleet.tasks.items() if _passes(task, judged)}
        found = {row["task_id"]: row["split"] for row in state.rows("SELECT task_id, split FROM outcomes")}
        lost, vain = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        require(promise, not lost, lambda: f"lost: {lost[:3]}: {self._fleet.tasks[lost[0]].stands}")
        require(promise, not vain, lambda: f"in vain: {vain[:3]}: {self._fleet.tasks[vain[0]].stands}")
        require(promise, found == expected, "a task is in the wrong split")
        view = list(objects(self._root / layout.TRAINING_VIEW)) if not self._system.damaged else []
        require(
            promise, not view or len(view) == len(found), f"{len(view)} in the training view, {len(found)} collected"
        )

    def _quarantine_is_true(self, state: State) -> None:
        """What cannot be read is in quarantine, once."""
        promise = "what is broken is kept once"
        found: Counter[str] = Counter()
        for (path,) in state.rows("SELECT path FROM quarantined"):
            if path.startswith(layout.BRONZE):
                found[path.rsplit("/", 1)[1]] += 1
        expected = Counter({file: count for file, count in self._fleet.quarantined.items() if count})
        require(promise, found == expected, f"{found}, not {expected}")
        if not any(path.startswith(layout.QUARANTINE) for path in self._system.damaged):
            kept = Counter(one["file"].rsplit("/", 1)[1] for one in objects(self._root / layout.QUARANTINE))
            require(promise, kept == expected, f"the files hold {kept}, not {expected}")

    def _tests_know_all(self, state: State) -> None:
        """A test that runs knows every outcome of the tasks that were routed by it."""
        promise = "no outcome is lost to its test"
        for test in state.rows("SELECT * FROM experiments WHERE ended_us IS NULL"):
            rows = state.rows("SELECT task_id, at_us, treated FROM trials WHERE test_id = ?", test["test_id"])
            known = {row["task_id"]: row for row in rows}
            for task in self._fleet.tasks.values():
                if task.choice.experiment != test["test_id"] or not (task.noted and task.routed and task.records):
                    continue
                stands = task.stands.facts
                if not stands.final or stands.status == "cancelled" or self._is_foreign(task, test):
                    continue
                row = known.get(task.task_id)
                require(promise, row is not None and row["at_us"] is not None, f"{task.task_id} of {test['test_id']}")
                assert row is not None
                is_treated = (task.choice.variant == "b") == (test["treated"] == "b")
                require(promise, bool(row["treated"]) == is_treated, f"{task.task_id} is in the other variant")

    def _is_foreign(self, task: Task, test: Any) -> bool:
        """Tell whether the test may pass a task over: it was made before it began, by a clock that stepped, or paused."""
        created_us = int(task.created_at.timestamp() * _MICRO)
        pauses = json.loads(test["pauses"])
        paused = any(
            one["from_us"] <= created_us and (one["until_us"] is None or created_us < one["until_us"]) for one in pauses
        )
        return created_us < test["started_us"] or paused

    def _runs_add_up(self, state: State) -> None:
        """What the events tell of the runs adds up to what there is."""
        promise = "what events tell adds up"
        events = [(row["event"], json.loads(row["body"])) for row in state.rows("SELECT event, body FROM events")]
        kept = sum(body["high_quality"] - body["withdrawn"] for event, body in events if event == "hq_collection")
        collected = state.one("SELECT count(*) FROM outcomes")
        require(promise, kept == collected, f"events tell of {kept} outcomes, there are {collected}")
        refined = [body for event, body in events if event == "medallion_run"]
        if not self.was_rebuilt:
            told = sum(body.get("objects", 0) for body in refined)
            require(promise, told == self._fleet.objects, f"events tell of {told} objects of {self._fleet.objects}")
        scored = sum(body["scored"] for event, body in events if event == "quality_scored")
        booked = state.one("SELECT coalesce(sum(requests), 0) FROM judge_spend")
        require(promise, scored <= booked, f"{scored} tasks scored by {booked} requests")

    def _shown_is_true(self, state: State) -> None:
        """The files that others read say what the state says."""
        promise = "the files show the state"
        routes = document(self._root / layout.ROUTES)
        for row in state.rows("SELECT * FROM servings"):
            assert routes is not None
            route = routes["masters"].get(row["master"])
            require(promise, route and route["champion"]["version"] == row["champion"], f"{row['master']}: {route}")
            is_routed = row["phase"] in {"testing", "watching"}
            shown = route["challenger"] and route["challenger"]["version"]
            require(promise, shown == (row["challenger"] if is_routed else None), f"{tuple(row)}: {route}")
            aliases = document(self._root / layout.aliases_file(row["master"]))
            is_same = aliases is not None and aliases["aliases"]["champion"]["version"] == row["champion"]
            require(promise, is_same, f"{row['master']}: {aliases}")
        for row in state.rows("SELECT test_id, ended_us, winner FROM experiments"):
            shown = document(self._root / layout.test_file(row["test_id"]))
            status = "active" if row["ended_us"] is None else "completed"
            require(promise, shown and shown["status"] == status, f"{row['test_id']}: {shown}")


def _passes(task: Task, judged: dict[str, float]) -> bool:
    if not task.records:
        return False
    _, facts, reason = task.stands
    if facts.quality_score is not None or task.task_id not in judged:
        return reason is None
    duration_s = facts.duration_seconds
    is_timely = duration_s is not None and 10 <= duration_s <= 600
    return judged[task.task_id] >= 4 and reason == "No quality score" and is_timely
