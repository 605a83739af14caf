"""Simulated agents: who serves a task is the router's word, and what becomes of it follows from the seed and from that."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from support import Rooms

from cortex_autolearn.assignment import variant
from cortex_autolearn.collect.prompt import Material, question
from cortex_autolearn.model import layout, routing
from cortex_autolearn.model.judgement import Ask
from cortex_autolearn.model.routing import Route, Served
from cortex_autolearn.testing import Ability, Agents, Expected
from cortex_autolearn.testing.agents import by_thoroughness, thoroughness

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2025, 6, 2, tzinfo=UTC)
MASTER, OTHER = "development-master", "security-master"
USUAL, NEW = Ability("usual", completes=0.9, excels=0.6), Ability("new", completes=0.3, excels=0.9)


def agents(root: Path, seed: int = 1, start: datetime = START, tasks: int = 60) -> Agents:
    (root / layout.COORDINATION).mkdir(parents=True, exist_ok=True)
    per_day = {MASTER: tasks, OTHER: tasks // 2}
    return Agents(root, seed, start=start, tasks_per_day=per_day, ability=lambda one: NEW if one == "ft-1" else USUAL)


def route(root: Path, percentage: int) -> None:
    """Give a challenger so much of one master's traffic."""
    routes = {MASTER: Route(Served("v1.0.0", "v1.0.0"), Served("claude-x", "ft-1"), "the-test", percentage)}
    path = root / layout.ROUTES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(routing.document(routes, generated_at="2025-06-02T00:00:00Z")))


def lines(root: Path) -> list[dict[str, Any]]:
    found = [line for path in (root / layout.BRONZE).iterdir() for line in path.read_bytes().splitlines()]
    return [json.loads(line) for line in found if line.endswith(b"}")]


def work(one: Agents, days: int = 1, start: datetime = START) -> Expected:
    for day in range(days):
        for hour in (14, 24):
            at = start + timedelta(days=day, hours=hour)
            one.ask(at)
            one.report(at)
    one.report(start + timedelta(days=days, hours=1))
    return one.expected()


def outcomes(root: Path) -> dict[str, tuple[str, str | None]]:
    return {
        line["task_id"]: (line["status"], line.get("output")) for line in lines(root) if line["status"] != "running"
    }


def test_what_they_do_follows_from_the_seed_whatever_the_date(tmp_path: Path) -> None:
    """The same ids, texts and outcomes on other days; nothing in common under another seed."""
    later = datetime(2026, 1, 31, tzinfo=UTC)
    work(agents(tmp_path / "a"))
    work(agents(tmp_path / "b", start=later), start=later)
    work(agents(tmp_path / "c", seed=2))
    first, again, other = (outcomes(tmp_path / name) for name in "abc")
    assert len(first) == 90
    assert first == again
    assert not first.keys() & other.keys()


def test_each_task_goes_where_the_router_sends_it(tmp_path: Path) -> None:
    """By hash among the tasks of a master under test, to the champion elsewhere; the model decides how it ends."""
    route(tmp_path, 40)
    one = agents(tmp_path, tasks=400)
    work(one)
    for line in lines(tmp_path):
        assert line["variant"] == (variant(line["task_id"], 60) if line["master"] == MASTER else "a")
        assert line["model"] == {"a": "v1.0.0", "b": "ft-1"}[line["variant"]]
    assert one.asked == 600
    assert 30 < one.requests < 100
    served = one.served
    assert {version: counts.tasks for version, counts in served.items()} == Counter(
        "ft-1" if one.master == MASTER and variant(task_id, 60) == "b" else "v1.0.0"
        for task_id, one in one.expected().standing.items()
    )
    assert served["v1.0.0"].completed / served["v1.0.0"].tasks == pytest.approx(0.9, abs=0.06)
    assert served["ft-1"].completed / served["ft-1"].tasks == pytest.approx(0.3, abs=0.15)


def test_routes_that_change_move_the_tasks_that_are_asked_for_afterwards(tmp_path: Path) -> None:
    """What was asked for before is done by the model that was named then."""
    one = agents(tmp_path, tasks=200)
    noon = START + timedelta(hours=14)
    one.ask(noon)
    route(tmp_path, 50)
    one.report(noon)
    assert {line["model"] for line in lines(tmp_path)} == {"v1.0.0"}
    again = agents(tmp_path / "again", tasks=200)
    again.ask(noon)
    assert one.ask(noon) == 0, "nothing is asked for twice"


def test_a_task_is_told_of_while_it_runs_and_when_it_has_ended(tmp_path: Path) -> None:
    """At any time every task that was asked for either runs or has ended, and nothing is recorded before its time."""
    one = agents(tmp_path, tasks=3_000)
    noon = START + timedelta(hours=12)
    asked = one.ask(noon)
    written = one.report(noon)
    found = lines(tmp_path)
    assert len(found) == written == one.records
    assert len({line["task_id"] for line in found}) == asked
    assert {line["status"] for line in found} == {"running", "completed", "failed"}
    assert all(datetime.fromisoformat(line["completed_at"]) <= noon for line in found if "completed_at" in line)
    one.report(noon + timedelta(hours=1))
    assert all(facts.final for facts in one.expected().standing.values())


def test_they_know_what_must_come_of_their_records(tmp_path: Path) -> None:
    """Through medallion and collector, and the judge's scores put beside them: torn lines and doubles included."""
    one = agents(tmp_path, tasks=300)
    expected = work(one, days=2)
    assert expected.quarantined_stretches > 0
    assert expected.superseded > 0
    rooms = Rooms(tmp_path)
    try:
        counts = rooms.follow()
    finally:
        rooms.close()
    found = (counts["objects"], counts["superseded"], counts["quarantined"])
    assert found == (expected.objects, expected.superseded, expected.quarantined)
    assert sorted(set(rooms.tasks())) == sorted(expected.standing)
    assert {facts.status for facts in expected.standing.values()} == {"completed", "failed"}
    assert all((expected.standing[task_id].quality_score or 0) >= 4 for task_id in expected.collected)


def test_a_thorough_answer_is_scored_higher() -> None:
    """By its different words, in halves from 1 to 5, and so by the script of a judge."""
    words = [f"word{number}" for number in range(60)]
    assert [thoroughness(" ".join(words[:count])) for count in (0, 7, 14, 25, 28, 35, 60)] == [1, 1, 2, 3.5, 4, 5, 5]
    assert thoroughness("again " * 50) == 1
    found = by_thoroughness(Ask("key", "rubric", question(Material(MASTER, None, "Do it", " ".join(words[:25])))))
    assert (found.overall, found.rationale) == (3.5, "Scripted: 3.5, by the number of different words.")


def test_arguments_are_checked(tmp_path: Path) -> None:
    """A start in another zone, and a master whose work nobody knows, are refused."""
    with pytest.raises(ValueError, match="aware UTC"):
        agents(tmp_path, start=datetime(2025, 6, 2, tzinfo=timezone(timedelta(hours=2))))
    with pytest.raises(ValueError, match="not cook-master"):
        Agents(tmp_path, 1, start=START, tasks_per_day={"cook-master": 1}, ability=lambda _: USUAL)
