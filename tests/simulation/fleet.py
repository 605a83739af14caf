"""The fleet of a world: does tasks with whatever model its routes name, writes about them, and knows the truth.

Its books hold every record that reached bronze, as ``testing.Facts``. What must come of them is said by
``testing.standing_record``, which is an oracle and no part of the package's reading.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cortex_autolearn.model import layout
from cortex_autolearn.record import record
from cortex_autolearn.router import Router
from cortex_autolearn.testing import KINDS, Facts, Truth, Write
from cortex_autolearn.testing.blemishes import spoil
from cortex_autolearn.testing.dice import Dice
from cortex_autolearn.testing.facts import standing_record

if TYPE_CHECKING:
    from pathlib import Path

    from cortex_autolearn.model.choice import Choice
    from cortex_autolearn.testing import FakeClock

    from .world import Skill, World

_NOUNS: Final = (
    "session token ledger queue cache cursor invoice login upload webhook digest mailbox schema index router beacon "
    "parser widget carrier voucher courier anchor mirror lantern quarry harbour"
).split()
_VERBS: Final = "inspect repair measure rename migrate document secure profile rewrite compare archive split".split()
_POOR: Final = ("N/A", "OK", None)
_TORN: Final = "torn"
_LONGEST_TORN_S: Final = 72_000
"""A line that waits for its rest for a day is broken for good, and rightly: nobody is in the middle of one so long."""


class Stands(NamedTuple):
    """Of so many records of a task the one that stands, and why it is not collected; None where it is."""

    of: int
    facts: Facts
    reason: str | None


@dataclass
class Task:
    """A task as the fleet knows it; ``choice`` is what the router chose, ``records`` what reached bronze."""

    task_id: str
    master: str
    created_at: datetime
    choice: Choice
    routed: bool
    noted: bool
    records: list[tuple[Facts, str, int]] = field(default_factory=list)
    _known: Stands | None = None

    @property
    def stands(self) -> Stands:
        """The record that stands for it, and what the collector's rule says of it."""
        if self._known is None or self._known.of != len(self.records):
            facts = standing_record(self.records)
            self._known = Stands(len(self.records), facts, facts.reason if facts.final else "not final")
        return self._known


class Due(NamedTuple):
    """A record that is written at an instant."""

    at: datetime
    number: int
    task: Task
    facts: Facts
    kind: str


class Fleet:
    """The fleet.

    Arguments:
        root: the ROOT.
        world: the world.
        clock: tells the time.
        happened: counts what went wrong.
    """

    def __init__(self, root: Path, world: World, clock: FakeClock, happened: Counter[str]) -> None:
        self.tasks: dict[str, Task] = {}
        self.asked: list[str] = []
        self.quarantined: Counter[str] = Counter()
        self.objects = 0
        self.drifted = False
        self._root = root
        self._world = world
        self._clock = clock
        self._happened = happened
        self._due: list[Due] = []
        self._torn: dict[str, tuple[bytes, Task, Facts, datetime]] = {}
        self._number = 0
        self._sequence = 0
        self._bronze = root / layout.BRONZE
        self._bronze.mkdir(parents=True, exist_ok=True)

    # --- work ---------------------------------------------------------------------------------------------------------

    def work(self, count: int, lasts_s: float, dice: Dice) -> None:
        """Let time pass, in which so many tasks come in; write what is due by its end."""
        router = Router(self._root)
        self.finish(lasts_s)
        begins = self._clock.now()
        for number in range(count):
            created = begins + timedelta(seconds=round(lasts_s * (number + 1) / (count + 1)))
            self._take(router, created, dice)
        self._clock.advance(lasts_s)
        self.deliver(dice)

    def deliver(self, dice: Dice) -> None:
        """Write what is due."""
        now = self._clock.now()
        while self._due and self._due[0].at <= now:
            self._write(heapq.heappop(self._due), dice)

    def finish(self, passes_s: float | None = None) -> None:
        """Write the rest of what is torn and would be too long when so much time has passed; else of everything."""
        for file, (_, _, _, since) in list(self._torn.items()):
            torn_s = (self._clock.now() - since).total_seconds()
            if passes_s is None or torn_s + passes_s >= _LONGEST_TORN_S:
                self._complete(file)

    @property
    def last_due(self) -> datetime | None:
        """When the last record will have been written; None where all are."""
        return max((due.at for due in self._due), default=None)

    def _take(self, router: Router, created: datetime, dice: Dice) -> None:
        world = self._world
        self._number += 1
        master = dice.pick(world.masters)
        task_id = f"{master.removesuffix('-master')}-{world.seed}-{self._number}"
        choice = router.choose(master, task_id)
        routed = world.routes_tasks or choice.fallback is None
        answers = choice if routed or choice.fallback is None else choice.fallback
        task = Task(task_id, master, created, choice, routed, dice.chance(world.notes_choice))
        self.tasks[task_id] = task
        skill = world.skill(answers.version, drifted=self.drifted)
        asked = self._ask(dice)
        begun = Facts(task_id, master, "scan", asked, "running", created, model=answers.version)
        if dice.chance(0.25):
            self._later(created, task, begun)
        if dice.chance(skill.hangs):
            self._later(created, task, begun)
            return
        done = self._outcome(begun, skill, dice)
        assert done.completed_at is not None
        late = dice.chance(world.rates["late record"])
        at = done.completed_at + timedelta(hours=dice.between(2, 40) if late else 0)
        self._happened["late record"] += late
        self._later(at, task, done, "late" if late else "record")
        if dice.chance(world.rates["duplicate"]):
            self._happened["duplicate"] += 1
            self._later(at + timedelta(minutes=dice.between(0, 600)), task, done, "duplicate")
        if dice.chance(world.rates["correction"]):
            self._happened["correction"] += 1
            later = at + timedelta(minutes=dice.between(5, 900))
            changed = replace(done, status="failed") if dice.chance(0.6) else replace(done, quality_score=5)
            if dice.chance(0.7):
                changed = replace(changed, completed_at=later)
            self._later(later, task, changed, "correction")

    def _ask(self, dice: Dice) -> str:
        if self.asked and dice.chance(0.08):
            return dice.pick(self.asked[-60:])
        words = [dice.pick(_VERBS), *(dice.pick(_NOUNS) for _ in range(7)), f"{dice.between(1, 9_999)}"]
        self.asked.append(" ".join(words))
        return self.asked[-1]

    def _outcome(self, begun: Facts, skill: Skill, dice: Dice) -> Facts:
        assert begun.created_at is not None
        took_s = dice.between(5, 90) if dice.chance(0.95) else dice.between(590, 700)
        done = replace(
            begun,
            completed_at=begun.created_at + timedelta(seconds=took_s),
            duration_seconds=float(took_s),
            retry_count=int(dice.chance(0.04)),
        )
        if not dice.chance(skill.completes):
            status = "failed" if dice.chance(0.95) else "cancelled"
            return replace(done, status=status, error=f"gave up on {begun.input[:20]}")
        score = min(5.0, max(1.0, skill.quality + (dice.between(0, 100) + dice.between(0, 100) - 100) / 100))
        return replace(
            done,
            status="completed",
            quality_score=None if dice.chance(self._world.judged) else round(score, 2),
            output=f"Done with {begun.input}: nothing else was found" if dice.chance(0.97) else dice.pick(_POOR),
        )

    def _later(self, at: datetime, task: Task, facts: Facts, kind: str = "record") -> None:
        self._sequence += 1
        heapq.heappush(self._due, Due(at, self._sequence, task, facts, kind))

    # --- writing ------------------------------------------------------------------------------------------------------

    def _write(self, due: Due, dice: Dice) -> None:
        task, facts = due.task, due.facts
        file = f"tasks-{due.at if due.kind == 'late' else facts.created_at:%Y%m%d}.jsonl"
        fields = self._fields(task, facts)
        if dice.chance(0.02):
            self._record(task, facts)
            return
        text = json.dumps(fields, indent=2 if dice.chance(0.08) else None, ensure_ascii=False)
        truth = Truth(due.kind, task.task_id, high_quality=False, split=None, records=(facts,))
        write = Write(due.at, file, text.encode() + b"\n", truth)
        writes = [write]
        if dice.chance(self._world.rates["corrupt record"]):
            kind = dice.pick([one for one in KINDS if one != _TORN])
            self._happened["corrupt record"] += 1
            writes = spoil(dice, kind, write, gap=timedelta(seconds=1), number=self._sequence)
        elif file not in self._torn and dice.chance(self._world.rates["torn record"]):
            self._happened["torn record"] += 1
            cut = dice.between(len(write.data) // 4, len(write.data) * 3 // 4)
            self._append(file, write.data[:cut])
            self._torn[file] = (write.data[cut:], task, facts, self._clock.now())
            return
        for one in writes:
            self._append(one.file, one.data)
            self._note(one, task)

    def _note(self, write: Write, task: Task) -> None:
        truth = write.truth
        self.objects += truth.objects
        self.quarantined[write.file] += truth.quarantined_objects + truth.quarantined_stretches
        for facts in truth.records:
            self._sequence += 1
            task.records.append((facts, write.file, self._sequence))

    def _append(self, file: str, data: bytes) -> None:
        self._complete(file)
        with (self._bronze / file).open("ab") as opened:
            opened.write(data)

    def _complete(self, file: str) -> None:
        rest = self._torn.pop(file, None)
        if rest is None:
            return
        data, task, facts, _ = rest
        with (self._bronze / file).open("ab") as opened:
            opened.write(data)
        self._note(Write(self._clock.now(), file, data, Truth("torn", None, False, None, (facts,))), task)

    def _record(self, task: Task, facts: Facts) -> None:
        """Write it by the package's own public face."""
        path = record(self._root, **self._fields(task, facts))
        self._note(Write(self._clock.now(), path.name, b"", Truth("record", None, False, None, (facts,))), task)

    def _fields(self, task: Task, facts: Facts) -> dict[str, Any]:
        choice = task.choice
        fields: dict[str, Any] = {
            "task_id": facts.task_id,
            "master": facts.master,
            "task_type": facts.task_type,
            "status": facts.status,
            "input": facts.input,
            "output": facts.output,
            "created_at": _text(facts.created_at),
            "completed_at": _text(facts.completed_at),
            "duration_seconds": facts.duration_seconds,
            "quality_score": facts.quality_score,
            "error": facts.error,
            "retry_count": facts.retry_count or None,
            "model": facts.model if task.noted else None,
            "variant": choice.variant if task.noted and choice.experiment else None,
            "experiment": choice.experiment if task.noted else None,
        }
        return {name: value for name, value in fields.items() if value is not None}


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
