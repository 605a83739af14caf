"""Simulated agents that ask the router for every task, do it as well as the model that serves it can, and record it.

``Fleet`` writes what fleets write, whoever served; here it matters who did: what becomes of a task follows from the
seed, its id and the model that the router named. No model is called. ``Router`` and ``record`` are the real ones.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from cortex_autolearn.model.judgement import Judgement
from cortex_autolearn.record import record
from cortex_autolearn.router import Router
from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.facts import Expected, Facts, split_of
from cortex_autolearn.testing.judge import output_of
from cortex_autolearn.testing.work import MASTERS, Brief, compose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cortex_autolearn.model.choice import Choice
    from cortex_autolearn.model.judgement import Ask

_DAY: Final = timedelta(days=1)
_WAKES: Final = timedelta(hours=4)
_SYSTEM: Final = "You are the {master} of a Cortex fleet. Do the task and say what you found and what you did."
_SHORTEST_S, _LONGEST_S, _SPREAD = 12, 580, 0.5
_RETRIED, _DOUBLED, _TORN, _REQUESTED = 0.02, 0.02, 0.005, 0.1
_WORDS_A_POINT: Final = 7


@dataclass(frozen=True, slots=True)
class Ability:
    """How well a model does the tasks of these agents."""

    name: str
    """What its luck with a task is drawn by, beside the seed and the task; not its version, which may hold a date."""
    completes: float
    """The share of its tasks that it completes, 0..1."""
    excels: float
    """The share of its answers that are thorough, 0..1; the others are careless."""
    median_s: float = 75.0
    """How long half of its tasks take at most, in seconds."""


class Served(NamedTuple):
    """How many tasks went to one model, and how many of them it completed."""

    tasks: int
    completed: int


@dataclass(slots=True)
class _Job:
    """A task that was handed to a model."""

    task_id: str
    master: str
    brief: Brief
    created_at: datetime
    choice: Choice
    facts: Facts
    """What will stand in its final record."""
    is_told: bool = False
    """Whether its beginning was recorded."""


class Agents:
    """Agents of some masters; all they do follows from the seed, the abilities and the routes.

    They work from four in the morning until midnight. A second run with the same seed has the same tasks, under the
    same ids, whatever the date is.

    Arguments:
        root: the folder that holds ``coordination/``.
        seed: names the world.
        start: the beginning of day 0, aware and in UTC.
        tasks_per_day: how many tasks a master is given each day, by master: some of
            :data:`~cortex_autolearn.testing.MASTERS`.
        ability: tells how able the model of a version is.
    """

    def __init__(
        self,
        root: Path,
        seed: int,
        *,
        start: datetime,
        tasks_per_day: Mapping[str, int],
        ability: Callable[[str], Ability],
    ) -> None:
        if start.utcoffset() != timedelta(0):
            raise ValueError(f"agents start at an aware UTC instant, not at {start!r}")
        if unknown := sorted(set(tasks_per_day) - set(MASTERS)):
            raise ValueError(f"masters are some of {', '.join(MASTERS)}, not {', '.join(unknown)}")
        self._root = root
        self._seed = seed
        self._start = start
        self._tasks_per_day = dict(tasks_per_day)
        self._ability = ability
        self._router = Router(root)
        self._coming: list[tuple[datetime, str, str]] = []
        self._day = 0
        self._open: list[_Job] = []
        self._standing: dict[str, Facts] = {}
        self._served: dict[str, list[int]] = {}
        self._file: Path | None = None
        self.asked = 0
        """How many tasks the router was asked for."""
        self.requests = 0
        """For how many of them the request to the model was written."""
        self.records = 0
        """How many records were written; torn ones not counted."""
        self.torn = 0
        """How many records were torn: half a line of a writer that was killed."""

    @property
    def served(self) -> dict[str, Served]:
        """What became of the tasks that have ended, by the version that served them."""
        return {version: Served(*counts) for version, counts in self._served.items()}

    def ask(self, until: datetime) -> int:
        """Ask the router for every task that is created before ``until``, as its routes are now; return how many."""
        while self._start + self._day * _DAY < until:
            self._coming += self._plan(self._day)
            self._day += 1
        due = [one for one in self._coming if one[0] < until]
        self._coming = [one for one in self._coming if one[0] >= until]
        for created_at, master, task_id in due:
            brief = compose(Dice(self._seed, "work", task_id), master)
            choice = self._router.choose(master, task_id)
            if Dice(self._seed, "request", task_id).chance(_REQUESTED):
                # As for a real call, with whatever examples the model brings; it is sent to nobody.
                choice.request(system=_SYSTEM.format(master=master), input=brief.ask, task_type=brief.task_type)
                self.requests += 1
            facts = self._do(task_id, master, brief, created_at, choice)
            self._open.append(_Job(task_id, master, brief, created_at, choice, facts))
        self.asked += len(due)
        return len(due)

    def report(self, until: datetime) -> int:
        """Record what has ended by ``until``, and that the rest is running, by time; return how many records."""
        before, still = self.records, []
        events: list[tuple[datetime, _Job]] = []
        for job in self._open:
            ends_at = job.facts.completed_at
            assert ends_at is not None
            if ends_at <= until:
                events.append((ends_at, job))
                continue
            still.append(job)
            if not job.is_told:
                events.append((job.created_at, job))
        self._open = still
        for at, job in sorted(events, key=lambda one: (one[0], one[1].task_id)):
            self._write(job, is_final=at == job.facts.completed_at)
        return self.records - before

    def expected(self) -> Expected:
        """Return what must have come of all that was recorded, once it is read and judged by :func:`thoroughness`."""
        final = {task_id: facts for task_id, facts in self._standing.items() if facts.final}
        return Expected(
            bytes=0,
            objects=self.records,
            superseded=self.records - len(self._standing),
            quarantined_objects=0,
            quarantined_stretches=self.torn,
            standing=self._standing,
            rejected=dict(Counter(facts.reason for facts in final.values() if facts.reason is not None)),
            collected={task_id: split_of(task_id) for task_id, facts in final.items() if facts.high_quality},
            fallen=frozenset(),
        )

    def _plan(self, day: int) -> list[tuple[datetime, str, str]]:
        """Return the tasks of a day: when each is created, whose it is, and its id."""
        awake_ms = (_DAY - _WAKES) // timedelta(milliseconds=1)
        begins = self._start + day * _DAY + _WAKES
        found = []
        for master, count in self._tasks_per_day.items():
            for number in range(count):
                dice = Dice(self._seed, "plan", day, master, number)
                created_at = begins + timedelta(milliseconds=dice.between(0, awake_ms - 1))
                found.append((created_at, master, f"{master.removesuffix('-master')}-{self._seed}-{day}-{number}"))
        return sorted(found)

    def _do(self, task_id: str, master: str, brief: Brief, created_at: datetime, choice: Choice) -> Facts:
        """Return the final record of a task as this model does it."""
        ability = self._ability(choice.version)
        dice = Dice(self._seed, "outcome", task_id, ability.name)
        took_s = min(_LONGEST_S, max(_SHORTEST_S, round(dice.lognormal(ability.median_s, _SPREAD))))
        started_at = created_at + timedelta(seconds=dice.between(1, 20))
        completes, excels = dice.chance(ability.completes), dice.chance(ability.excels)
        output = brief.good if excels else brief.poor
        return Facts(
            task_id=task_id,
            master=master,
            task_type=brief.task_type,
            input=brief.ask,
            status="completed" if completes else "failed",
            created_at=created_at,
            started_at=started_at,
            completed_at=started_at + timedelta(seconds=took_s),
            output=output if completes else None,
            quality_score=thoroughness(output) if completes else None,
            duration_seconds=float(took_s),
            error=None if completes else brief.trouble,
            retry_count=dice.between(1, 2) if dice.chance(_RETRIED) else 0,
            model=choice.version,
        )

    def _write(self, job: _Job, *, is_final: bool) -> None:
        facts, dice = job.facts, Dice(self._seed, "writing", job.task_id, is_final)
        if self._file is not None and dice.chance(_TORN):
            with self._file.open(
                "ab"
            ) as file:  # a writer that is killed leaves half a line; record() goes on behind it
                file.write(f'{{"task_id":"{job.task_id}","master":"{job.master}","status":"comp'.encode())
            self.torn += 1
        for _ in range(2 if dice.chance(_DOUBLED) else 1):
            self._file = self._record(facts, job.choice) if is_final else self._record_running(facts, job.choice)
            self.records += 1
        job.is_told = True
        if is_final:
            counts = self._served.setdefault(job.choice.version, [0, 0])
            counts[0] += 1
            counts[1] += facts.status == "completed"
            self._standing[job.task_id] = facts
        else:
            self._standing[job.task_id] = _running(facts)

    def _record(self, facts: Facts, choice: Choice) -> Path:
        return record(
            self._root,
            task_id=facts.task_id,
            master=facts.master,
            task_type=facts.task_type,
            status=facts.status,
            input=facts.input,
            output=facts.output,
            created_at=facts.created_at,
            started_at=facts.started_at,
            completed_at=facts.completed_at,
            duration_seconds=facts.duration_seconds,
            error=facts.error,
            retry_count=facts.retry_count,
            choice=choice,
        )

    def _record_running(self, facts: Facts, choice: Choice) -> Path:
        return record(
            self._root,
            task_id=facts.task_id,
            master=facts.master,
            task_type=facts.task_type,
            status="running",
            input=facts.input,
            created_at=facts.created_at,
            started_at=facts.started_at,
            choice=choice,
        )


def thoroughness(output: str) -> float:
    """Return the score of an answer: a point for every seven different words, in halves, from 1 to 5."""
    words = len(set(output.lower().split()))
    return max(1.0, min(5.0, round(2 * words / _WORDS_A_POINT) / 2))


def by_thoroughness(ask: Ask) -> Judgement:
    """Return a judgement for :class:`~cortex_autolearn.testing.ScriptedJudge`, by :func:`thoroughness` alone."""
    overall = thoroughness(output_of(ask))
    mark = round(overall)
    return Judgement(mark, mark, mark, mark, overall, f"Scripted: {overall:g}, by the number of different words.")


def _running(facts: Facts) -> Facts:
    """Return what stood of a task while it ran."""
    return Facts(
        task_id=facts.task_id,
        master=facts.master,
        task_type=facts.task_type,
        input=facts.input,
        status="running",
        created_at=facts.created_at,
        started_at=facts.started_at,
        model=facts.model,
    )
