"""The checks can fail: each promise is broken by hand, once, and the check that is named after it notices."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from cortex_autolearn.model import layout
from cortex_autolearn.runner import Result

from .driver import Simulation, check, folder
from .invariants import Books
from .judge import Bench
from .promise import BrokenError
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SEED = 5
"""Of a world that has come, after its steps, to all that is broken here: a promotion, a test that runs, spending."""


@pytest.fixture(scope="module")
def lived() -> Iterator[Simulation]:
    """A world in which nothing went wrong but a few records, as it stands after its steps."""
    with folder() as place:
        yield peaceful(SEED, place)


@pytest.fixture
def one(lived: Simulation) -> Iterator[Simulation]:
    """That world, to be damaged; it is as it was afterwards."""
    kept = lived.system.root.with_name("kept")
    shutil.copytree(lived.system.root.parent, kept, ignore=lambda *_: ["kept"])
    yield lived
    for name in ("root", "outside"):
        shutil.rmtree(lived.system.root.with_name(name))
        shutil.move(kept / name, lived.system.root.with_name(name))
    shutil.rmtree(kept)


def peaceful(seed: int, place: Path) -> Simulation:
    """Let a world live in which nothing goes wrong but a few records, and a judge is asked."""
    world = World.of(seed)
    rates = dict.fromkeys(world.rates, 0.0) | {"corrupt record": 0.05}
    world = replace(world, rates=rates, judged=0.3, notes_choice=1.0, routes_tasks=True, backend="scripted")
    one = Simulation(world, place, Counter(), lambda _: None)
    one.system.begin()
    for number in range(world.steps):
        one.step(number)
    one.system.end()
    return one


def books(one: Simulation) -> Books:
    """Return new books over the world, in which nothing is noted yet."""
    return Books(one.world, one.system, one.fleet, Counter())


def sql(one: Simulation, *statements: str) -> None:
    """Change the state behind everybody's back."""
    connection = sqlite3.connect(one.system.root / layout.STATE)
    for statement in statements:
        assert connection.execute(statement).rowcount, statement
    connection.commit()
    connection.close()


def a_file(one: Simulation, folder: str) -> Path:
    """Return the largest file of a folder."""
    return max((one.system.root / folder).rglob("*.jsonl"), key=lambda path: path.stat().st_size)


def relative(one: Simulation, path: Path) -> str:
    return str(path.relative_to(one.system.root))


def committed(one: Simulation, path: Path) -> None:
    """Let the state take a file's length for the right one."""
    sql(one, f"UPDATE outputs SET length = {path.stat().st_size} WHERE path = '{relative(one, path)}'")


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def double_an_outcome(one: Simulation) -> None:
    path = a_file(one, layout.OUTCOMES)
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    committed(one, path)


def lose_an_outcome(one: Simulation) -> None:
    path = a_file(one, layout.OUTCOMES)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    committed(one, path)
    sql(one, f"DELETE FROM outcomes WHERE task_id = '{json.loads(lines[-1])['task_id']}'")


def cut_a_file(one: Simulation) -> None:
    path = a_file(one, layout.SILVER)
    path.write_bytes(path.read_bytes()[:-1])


def quarantine_twice(one: Simulation) -> None:
    path = a_file(one, layout.QUARANTINE)
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    committed(one, path)


def train_on_what_is_held_out(one: Simulation) -> None:
    folder = max((one.system.root / layout.DATASETS).iterdir())
    held_out = (folder / "validation.jsonl").read_bytes().splitlines(keepends=True)[0]
    (folder / "train.jsonl").write_bytes((folder / "train.jsonl").read_bytes() + held_out)
    edited(
        folder / "manifest.json",
        lambda manifest: manifest["examples"]["train"].append(manifest["examples"]["validation"][0]),
    )


def route_to(one: Simulation, arm: str) -> None:
    def change(content: dict[str, Any]) -> None:
        for route in content["masters"].values():
            route[arm] = {"model": "nobody", "version": "ft-20200101-001", "kind": "base"}
            route["experiment"] = "t"

    edited(one.system.root / layout.ROUTES, change)


def tear_down(one: Simulation) -> None:
    for endpoint in one.system.trainer.endpoints():
        one.system.trainer.teardown(endpoint)


def overspend(one: Simulation) -> None:
    bench: Bench = one.system.bench
    charge = next(iter(bench.charges()))
    with (one.system.outside / "judge" / "journal").open("a") as journal:
        journal.write(f"{charge.day} {10**9}\n")


def forget_a_booking(one: Simulation) -> None:
    sql(one, "UPDATE judge_spend SET cost = cost / 2")


def double_a_training(one: Simulation) -> None:
    sql(one, "DROP INDEX one_training_a_scope", "UPDATE training_jobs SET scope = 'global', ended_us = NULL")


def double_a_test(one: Simulation) -> None:
    sql(one, "DROP INDEX one_test_a_master", "UPDATE experiments SET ended_us = NULL")


def double_an_event(one: Simulation) -> None:
    path = one.system.root / layout.EVENTS
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[-1])


def miscount(one: Simulation) -> None:
    sql(
        one,
        "UPDATE events SET body = json_set(body, '$.high_quality', 1 + (body ->> '$.high_quality')) "
        "WHERE seq = (SELECT min(seq) FROM events WHERE event = 'hq_collection')",
    )


def show_another_champion(one: Simulation) -> None:
    (path, *_) = sorted((one.system.root / layout.MASTERS).rglob("aliases.json"))
    edited(path, lambda content: content["aliases"]["champion"].update(version="v0"))


_OF_PROMOTED = "test_id = (SELECT body ->> '$.test_id' FROM events WHERE event = 'auto_promotion' LIMIT 1)"

SABOTAGE: tuple[tuple[str, str, Callable[[Simulation], None]], ...] = (
    ("each outcome stands once", "a line twice", double_an_outcome),
    (
        "each outcome stands once",
        "a row less",
        lambda one: sql(one, "DELETE FROM outcomes WHERE task_id = (SELECT max(task_id) FROM outcomes)"),
    ),
    ("nothing is lost or collected in vain", "an outcome less", lose_an_outcome),
    (
        "nothing is lost or collected in vain",
        "a task scored less",
        lambda one: sql(one, "UPDATE scores SET overall = 1"),
    ),
    ("silver is true", "another score", lambda one: sql(one, "UPDATE tasks SET quality = 1.5 WHERE quality > 4")),
    ("silver is true", "a task less", lambda one: sql(one, "DELETE FROM tasks WHERE id = (SELECT max(id) FROM tasks)")),
    ("what is broken is kept once", "a line twice", quarantine_twice),
    ("files agree with the state", "a byte less", cut_a_file),
    ("nothing is trained that was in validation", "one example", train_on_what_is_held_out),
    ("routes name deployable models", "an unknown champion", lambda one: route_to(one, "champion")),
    ("routes name deployable models", "an unknown challenger", lambda one: route_to(one, "challenger")),
    ("routes name deployable models", "nothing serves", tear_down),
    ("spending stays within the budgets", "a thousand dollars", overspend),
    ("spending stays within the budgets", "booked at half", forget_a_booking),
    ("at most one job a scope", "all go on", double_a_training),
    ("at most one test a master", "all go on", double_a_test),
    ("at most one test a master", "nobody is served", lambda one: sql(one, "DELETE FROM servings")),
    (
        "a champion always exists",
        "no history",
        lambda one: sql(one, "DELETE FROM alias_history WHERE alias = 'champion'"),
    ),
    ("no promotion without its evidence", "no decision", lambda one: sql(one, "DELETE FROM rollout_decisions")),
    (
        "no promotion without its evidence",
        "all failed",
        lambda one: sql(one, f"UPDATE trials SET completed = 0 WHERE treated AND {_OF_PROMOTED}"),
    ),
    (
        "no promotion without its evidence",
        "hardly better",
        lambda one: sql(one, f"UPDATE trials SET quality = 4 WHERE {_OF_PROMOTED}"),
    ),
    (
        "no outcome is lost to its test",
        "one is",
        lambda one: sql(
            one, "DELETE FROM trials WHERE test_id IN (SELECT test_id FROM experiments WHERE ended_us IS NULL)"
        ),
    ),
    (
        "every change has exactly one event",
        "a model less",
        lambda one: sql(one, "DELETE FROM events WHERE event = 'fine_tune_completed'"),
    ),
    (
        "every change has exactly one event",
        "a promotion twice",
        lambda one: sql(
            one,
            "INSERT INTO events (timestamp, event, body) SELECT timestamp, event, body FROM events WHERE event = 'ab_test_started'",
        ),
    ),
    ("the events file is in order", "the last one twice", double_an_event),
    ("what events tell adds up", "one outcome more", miscount),
    ("the files show the state", "another champion", show_another_champion),
)


@pytest.mark.parametrize(("promise", "how", "sabotage"), SABOTAGE, ids=[f"{one[0]}: {one[1]}" for one in SABOTAGE])
def test_what_is_broken_is_noticed(
    one: Simulation, promise: str, how: str, sabotage: Callable[[Simulation], None]
) -> None:
    """Every promise can be broken, and its own check says so."""
    sabotage(one)
    with pytest.raises(BrokenError) as raised:
        books(one).after_step(is_settled=True)
    assert raised.value.promise == promise, (how, raised.value)


def test_a_world_in_peace_breaks_nothing(one: Simulation) -> None:
    """Else the others would prove nothing; and it holds all that is broken here."""
    fresh = books(one)
    fresh.after_step(is_settled=True)
    fresh.after_step(is_settled=True)


def test_a_dataset_that_changes_is_noticed(one: Simulation) -> None:
    """Frozen is what was seen before."""
    fresh = books(one)
    fresh.after_step(is_settled=True)
    path = max((one.system.root / layout.DATASETS).rglob("train.jsonl"))
    path.write_bytes(path.read_bytes()[:-2] + b"\n")
    with pytest.raises(BrokenError, match="datasets are frozen"):
        fresh.after_step(is_settled=True)


def test_a_champion_that_is_gone_is_noticed(one: Simulation) -> None:
    """Whoever was served is served for ever."""
    fresh = books(one)
    fresh.after_step(is_settled=True)
    sql(one, "UPDATE experiments SET ended_us = 1 WHERE ended_us IS NULL", "DELETE FROM servings")
    with pytest.raises(BrokenError, match="a champion always exists"):
        fresh.after_step(is_settled=False)


def test_an_error_of_ours_is_noticed() -> None:
    """Whatever the disk refuses, a job says so in words."""
    failed = Result("run", "silver", "failed", {}, 0.0, OSError(28, "No space left on device"))
    with pytest.raises(BrokenError, match="errors are explained"):
        check([failed])
