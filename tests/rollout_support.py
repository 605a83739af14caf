"""Shared by the tests of rollout: a fleet whose masters are served by whatever their routes say, on a fast clock."""

from __future__ import annotations

import json
import random
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from support import NOW, Handle, Rooms, events

from cortex_autolearn.model import instants, layout
from cortex_autolearn.model.rollout_policy import RolloutPolicy
from cortex_autolearn.model.runs import Run
from cortex_autolearn.model.training_jobs import ModelRef
from cortex_autolearn.model.trainings import Model
from cortex_autolearn.rollout.job import Rollout
from cortex_autolearn.rollout.registry import Refused
from cortex_autolearn.router import Router
from cortex_autolearn.testing import FakeClock, Script, ScriptedTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cortex_autolearn.model.choice import Choice

MASTER = "security-master"
OTHER = "inventory-master"
MODEL = "ft-20251127-001"
CHAMPION = "v1.0.0"
STEP_S = 600


class Skill(NamedTuple):
    """How a model does: shares of its tasks, its mean score, and how long it takes."""

    completes: float = 0.8
    quality: float = 3.8
    hangs: float = 0.0
    duration_s: float = 40.0


WORSE = Skill(completes=0.3, quality=2.5)
USUAL = Skill()
BETTER = Skill(completes=0.98, quality=4.7)
BROKEN = Skill(completes=0.0)

QUICK: dict[str, Any] = {
    "min_tasks": 30,
    "maturation_s": 1_800,
    "challenger_percentage": 50,
    "watch_percentage": 50,
    "watch_tasks": 100,
}
"""Settings under which a test takes a few hundred tasks."""


class Town:
    """A fleet under rollout: medallion, rollout and a scripted backend over one ROOT.

    Arguments:
        root: the ROOT.
        clock: tells the time; stands at ``NOW`` unless given.
        policy: fields of the ``[rollout]`` section, over :data:`QUICK`.
    """

    def __init__(
        self, root: Path, *, clock: FakeClock | None = None, script: Script | None = None, **policy: Any
    ) -> None:
        self.root = root
        self.rooms = Rooms(root, clock=clock)
        self.clock = self.rooms.clock
        self.script = script or Script(deploy_s=60)
        self.trainer = ScriptedTrainer(root / "outside", self.clock, self.script)
        self.policy = RolloutPolicy(**{**QUICK, **policy})
        self.skills: dict[str, Skill] = {CHAMPION: USUAL}
        self.handle = Handle()
        self.number = 0
        self.restart()

    def __enter__(self) -> Town:
        return self

    def __exit__(self, *_: object) -> None:
        self.rooms.close()

    def restart(self) -> None:
        """Forget everything that is not stored."""
        self.rollout = Rollout(
            self.rooms.store,
            self.rooms.tree,
            self.clock,
            self.policy,
            self.rooms.readers,
            {"scripted": self.trainer},
            self.rooms.medallion.taken_in_us,
        )

    def add_model(self, model_id: str = MODEL, *, scope: str = MASTER, dataset_id: str | None = None) -> None:
        """Let a training have ended with a model."""
        ref = ModelRef(model_id=model_id, kind="base", base="claude-small", artefact=f"scripted:{model_id}")
        with self.rooms.store.write() as transaction:
            transaction.put_model(Model(ref, scope, dataset_id, "scripted", {}, self.now_us))

    @property
    def now_us(self) -> int:
        return instants.to_us(self.clock.now())

    def run(self) -> dict[str, Any]:
        """Refine what is new, and run rollout."""
        self.rooms.follow()
        return self.rollout.run(self.handle)

    def good_run(self, job: str) -> None:
        """Let it be recorded that a job ran a moment ago, and went well."""
        at_us = self.now_us - 1
        run = Run(f"{job}-{at_us}", job, "test", None, at_us, None, None, {})
        with self.rooms.store.write() as transaction:
            transaction.begin_run(run)
            transaction.end_run(run.run_id, "ok", at_us)

    def past(self, master: str = MASTER, tasks: int = 200, skill: Skill = USUAL) -> None:
        """Give a master's champion a history of a few days."""
        self.work(tasks, master, {CHAMPION: skill}, run=False, spread_s=3 * 86_400)
        self.clock.advance(3_600)

    def work(
        self,
        tasks: int = 40,
        master: str = MASTER,
        skills: Mapping[str, Skill] | None = None,
        *,
        run: bool = True,
        spread_s: float = STEP_S,
        record: Callable[[Choice, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Let a master do tasks, each by the model that its route says; what each does is the same in every life."""
        router = Router(self.root)
        lines = []
        for _ in range(tasks):
            self.number += 1
            task_id = f"{master}-task-{self.number}"
            choice = router.choose(master, task_id)
            one = self._record(task_id, master, choice, (skills or self.skills)[choice.version])
            lines.append(one if record is None else record(choice, one))
            self.clock.advance(spread_s / tasks)
        self.clock.advance(60)
        self.rooms.put(f"tasks-{self.number // 1_000}.jsonl", *lines)
        return self.run() if run else {}

    def until(self, is_over: Callable[[], bool], *, most: int = 60, master: str = MASTER, tasks: int = 40) -> int:
        """Let a master work until something is so; return how many tasks that took."""
        for portion in range(most + 1):
            if is_over():
                return portion * tasks
            self.work(tasks, master)
        raise AssertionError(f"not after {most * tasks} tasks: {self.status()}")

    def _record(self, task_id: str, master: str, choice: Choice, skill: Skill) -> dict[str, Any]:
        chance = random.Random(f"{task_id} {choice.version}")
        created = self.clock.now()
        one: dict[str, Any] = {
            "task_id": task_id,
            "master": master,
            "task_type": "scan",
            "input": "Look through the login code for weak spots",
            "created_at": instants.to_text(created),
            "model": choice.version,
            "variant": choice.variant,
            "experiment": choice.experiment,
        }
        if chance.random() < skill.hangs:
            return one | {"status": "running"}
        completed = chance.random() < skill.completes
        score = min(5.0, max(1.0, chance.gauss(skill.quality, 0.4)))
        return one | {
            "status": "completed" if completed else "failed",
            "quality_score": round(score, 2) if completed else None,
            "duration_seconds": round(skill.duration_s * (0.8 + 0.4 * chance.random()), 1),
            "completed_at": instants.to_text(created + timedelta(seconds=skill.duration_s)),
            "output": "Two weak spots were found in the session handling",
        }

    # --- looking ------------------------------------------------------------------------------------------------------

    def held(self, master: str = MASTER) -> Any:
        with self.rooms.store.read() as reading:
            return reading.serving(master)

    def test(self, test_id: str) -> Any:
        with self.rooms.store.read() as reading:
            found = reading.experiment(test_id)
        assert found is not None
        return found

    def look(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """Ask a question of ``rollout.report``."""
        with self.rooms.store.read() as reading:
            return question(reading, *arguments)

    def history(self, master: str = MASTER) -> Any:
        with self.rooms.store.read() as reading:
            return reading.alias_history(master)

    def queue(self) -> list[str]:
        with self.rooms.store.read() as reading:
            return [one.model_id for one in reading.deploy_queue()]

    def phase(self, master: str = MASTER) -> str | None:
        held = self.held(master)
        return None if held is None else held.phase

    def status(self) -> Any:
        with self.rooms.store.read() as reading:
            return [(one.test_id, one.ending, one.metrics) for one in reading.experiments()]

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        with self.rooms.store.read() as reading:
            return [(kind, json.loads(body)) for _, _, kind, body in reading.events_after(0, None, 10_000)]

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events()]

    def routes(self) -> Any:
        return json.loads((self.root / layout.ROUTES).read_bytes())["masters"]

    def aliases(self, master: str = MASTER) -> Any:
        return json.loads((self.root / layout.aliases_file(master)).read_bytes())

    def file(self, test_id: str) -> Any:
        return json.loads((self.root / layout.test_file(test_id)).read_bytes())


def town(root: Path, **options: Any) -> Town:
    """Return a town with a champion of some history and a model that is ready for its test."""
    made = Town(root, clock=FakeClock(NOW), **options)
    made.past()
    made.add_model()
    return made


# --- lives in which processes are killed ------------------------------------------------------------------------------

SHORT: dict[str, Any] = {"min_tasks": 15, "promotion_evidence": 20.0, "watch_tasks": 60}
"""Settings under which a whole life takes a dozen steps."""


def work(root: Path, clock: FakeClock, *, at_s: float, step: str | None = None) -> None:
    """Do one step of a life, in a process that may be killed at it: a person's step, if any, and a run.

    Arguments:
        root: the ROOT.
        clock: stands at ``NOW``.
        at_s: how many seconds after that it is.
        step: ``pause`` or ``resume``.
    """
    clock.advance(at_s)
    with Town(root, clock=clock, **SHORT) as one:
        if step is not None:
            result = getattr(one.rollout, step)(f"{MASTER}-{MODEL}", by="ada@desk", why="lunch")
            assert not isinstance(result, Refused), result
        one.run()
        assert not one.handle.troubles, one.handle.troubles


class Life:
    """One whole life over a ROOT: a better model is tested, promoted and watched; processes do it, this one looks on.

    Arguments:
        root: the ROOT.
        run: does a step in another process, given the seconds since ``NOW`` and a person's step.
    """

    def __init__(self, root: Path, run: Callable[[float, str | None], None]) -> None:
        self.root = root
        self._run = run
        self._town = Town(root, **SHORT)
        self._town.skills[MODEL] = BETTER
        self.steps = 0

    def live(self) -> None:
        """Live it to its end."""
        one = self._town
        one.past(tasks=60)
        one.add_model()
        while not (one.phase() == "steady" and "promotion_settled" in one.kinds()):
            assert self.steps < 40, one.status()
            one.work(25, run=False)
            if one.phase() == "testing":
                self._record_results()
            self._run(self._seconds(), {4: "pause", 5: "resume"}.get(self.steps))
            self.steps += 1
            check_agreement(one)

    def found(self) -> dict[str, Any]:
        """Return all that is left of it: the tables of rollout, the events and the files."""
        connection = sqlite3.connect(self.root / layout.STATE)
        try:
            tables = {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in _TABLES}
            tests = connection.execute(
                "SELECT test_id, ended_us, ending, winner, pauses, alarms, metrics, refused, seen FROM experiments"
            ).fetchall()
        finally:
            connection.close()
        one = self._town
        files = {"routes": one.routes(), "aliases": one.aliases()}
        files |= {test[0]: one.file(test[0]) for test in tests}
        return tables | files | {"experiments": tests, "events": events(self.root), "serving": _served(one)}

    def close(self) -> None:
        self._town.rooms.close()

    def _seconds(self) -> float:
        return (self._town.clock.now() - NOW).total_seconds()

    def _record_results(self) -> None:
        path = self.root / layout.results_file(f"{MASTER}-{MODEL}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            for variant in "ab":
                result = {
                    "test_id": f"{MASTER}-{MODEL}",
                    "task_id": f"shell-{self.steps}-{variant}",
                    "variant": variant,
                    "status": "completed",
                    "quality_score": 4,
                    "timestamp": instants.to_text(self._town.clock.now()),
                }
                file.write(json.dumps(result, indent=2) + "\n")


_TABLES = ("servings", "alias_history", "trials", "late_outcomes", "deploy_queue", "endpoints", "rollout_decisions")


def check_agreement(one: Town) -> None:
    """Check that registry, tests, routes, aliases, test files and events tell the same of the master."""
    held = one.held()
    if held is None:
        return
    with one.rooms.store.read() as reading:
        tests = reading.experiments()
    active = [test for test in tests if test.is_active]
    assert [test.test_id for test in active] == ([] if held.test_id is None else [held.test_id])
    assert (held.phase in {"testing", "paused", "watching"}) == bool(active)
    route, aliases = one.routes()[MASTER], one.aliases()["aliases"]
    assert route["champion"]["version"] == aliases["champion"]["version"] == held.champion
    is_split = held.phase in {"testing", "watching"}
    assert route["experiment"] == (held.test_id if is_split else None)
    assert (aliases["challenger"] or {}).get("version") == held.challenger
    for test in tests:
        assert one.file(test.test_id)["status"] == ("active" if test.is_active else "completed")
        assert one.file(test.test_id)["metrics"] == test.metrics
    told = [body["test_id"] for kind, body in one.events() if kind == "ab_test_started"]
    assert sorted(told) == sorted(test.test_id for test in tests)
    lines = events(one.root)
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line["event"] for line in lines] == one.kinds()


def _served(one: Town) -> list[str]:
    return [endpoint.model.model_id for endpoint in one.trainer.endpoints()]
